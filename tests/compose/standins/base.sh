#!/bin/sh
# A minimal Debian as the image debian:bookworm-slim, for tests on a machine that can reach Debian's archive but no
# registry of images. Root only (debootstrap).
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
debootstrap --variant=minbase bookworm "$work/root" >"$work/log" 2>&1 || { tail -3 "$work/log" >&2; exit 1; }
# What apt keeps is of no use in an image.
rm -rf "$work"/root/var/cache/apt/archives/*.deb "$work"/root/var/lib/apt/lists/*
# The certificates that this machine trusts, under a name that the package ca-certificates does not write over.
certificates=/etc/ssl/host-certificates.crt
mkdir -p "$work/root/etc/ssl"
cp -L /etc/ssl/certs/ca-certificates.crt "$work/root$certificates"
tar -C "$work/root" --numeric-owner -c . | docker import \
  --change "ENV PIP_CERT=$certificates SSL_CERT_FILE=$certificates REQUESTS_CA_BUNDLE=$certificates" \
  --change 'LABEL org.flow360.stand-in="Debian bookworm by debootstrap"' \
  --change 'CMD ["bash"]' - debian:bookworm-slim
