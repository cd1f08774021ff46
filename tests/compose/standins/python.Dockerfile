# A stand-in for python:3.11-slim-bookworm: Debian's own Python 3.11, with pip as that image has it. For tests only.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 python3-pip \
 && rm -rf /var/lib/apt/lists/* /usr/lib/python3*/EXTERNALLY-MANAGED \
 && ln -s python3 /usr/bin/python \
 && python3 -m pip install --no-cache-dir pip==24.0
LABEL org.flow360.stand-in="Debian's Python 3.11"
CMD ["python3"]
