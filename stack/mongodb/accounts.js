// The accounts, made by the image's first start: the course's own, for its two databases and nothing else, and that of
// whoever captures changes, which only reads.
db.getSiblingDB("admin").createUser({
  user: "catalogue",
  pwd: process.env.CATALOGUE_PASSWORD,
  roles: ["catalogue", "workshop"].flatMap((db) => ["readWrite", "dbAdmin"].map((role) => ({ role, db }))),
});
db.getSiblingDB("admin").createUser({
  user: "capture",
  pwd: process.env.CATALOGUE_CAPTURE_PASSWORD,
  roles: [{ role: "read", db: "catalogue" }, { role: "clusterMonitor", db: "admin" }],
});
