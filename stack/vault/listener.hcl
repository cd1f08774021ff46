# Where clients reach the secrets. Without TLS: on this machine, the way from one process to the other is as closed as the
# processes are. Between two machines it never is.
listener "tcp" {
  address = "0.0.0.0:8200"
  cluster_address = "127.0.0.1:0"
  tls_disable = true
  # OpenBao: nobody begins to change the unseal keys without a token.
  disable_unauthed_rekey_endpoints = true
}
