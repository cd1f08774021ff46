# The learner, who looks after the secrets in this course: everything but the server itself, and policies and roles of
# their own under `lab-`. (Whoever may write a policy and give it to a role can get at all that a policy can name.)
path "secret/*" {
  capabilities = ["create", "read", "update", "patch", "delete", "list"]
}

path "database/creds/*" {
  capabilities = ["read"]
}

path "database/roles/*" {
  capabilities = ["read", "list"]
}

path "database/roles/lab-*" {
  capabilities = ["create", "read", "update", "delete"]
}

path "database/static-roles/lab-*" {
  capabilities = ["create", "read", "update", "delete"]
}

path "database/static-creds/lab-*" {
  capabilities = ["read"]
}

path "database/rotate-role/lab-*" {
  capabilities = ["create", "update"]
}

path "sys/policies/acl" {
  capabilities = ["list"]
}

path "sys/policies/acl/*" {
  capabilities = ["read"]
}

path "sys/policies/acl/lab-*" {
  capabilities = ["create", "read", "update", "delete"]
}

path "auth/approle/role" {
  capabilities = ["list"]
}

path "auth/approle/role/lab-*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

path "auth/token/create" {
  capabilities = ["create", "update"]
}

path "sys/leases/*" {
  capabilities = ["create", "read", "update", "list", "sudo"]
}

path "sys/mounts" {
  capabilities = ["read"]
}

# To search the audit log for a value that leaked.
path "sys/audit-hash/file" {
  capabilities = ["create", "update"]
}

# The emergency brake: `flow360 up vault` lets it go again.
path "sys/seal" {
  capabilities = ["update", "sudo"]
}
