# While it is being configured: raft wants a port for its cluster, which only a listener of this kind brings. It takes no
# connection but from an address that nobody has.
listener "tcp" {
  address = "127.0.0.1:0"
  cluster_address = "127.0.0.1:0"
  tls_disable = true
  proxy_protocol_behavior = "deny_unauthorized"
  proxy_protocol_authorized_addrs = "192.0.2.1"
}
