// The course's own account, made by the image's first start: for its two databases and nothing else.
db.getSiblingDB("admin").createUser({
  user: "catalogue",
  pwd: process.env.CATALOGUE_PASSWORD,
  roles: ["catalogue", "workshop"].flatMap((db) => ["readWrite", "dbAdmin"].map((role) => ({ role, db }))),
});
