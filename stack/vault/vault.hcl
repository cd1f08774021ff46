# The server of the secrets: what it keeps, how it is reached from beside it, what it notes. Where clients reach it stands
# in listener.hcl: until everything is configured, nobody does (vault.sh). Paths are seen from the folder of its data.

# Vault wants to hear that its memory may be written to swap (with raft it maps a file); OpenBao does not know the word.
disable_mlock = true
ui = false

storage "raft" {
  path = "raft"
  node_id = "primeur"
  # One node waits for no other: it elects itself after a second.
  performance_multiplier = 1
}

# Of its kind there is one; the port for others of the cluster is any free one, and nobody needs to know it.
api_addr = "http://127.0.0.1:8200"
cluster_addr = "https://127.0.0.1:1"

# In the folder of its data, which nobody else may enter.
listener "unix" {
  address = "vault.sock"
}

# OpenBao takes its audit log from here only; Vault from its API only (apply.sh), and warns that it does not know this.
audit "file" "file" {
  options {
    file_path = "audit.log"
  }
}
