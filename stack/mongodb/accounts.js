// The course's own account, made by the image's first start. It owns its two databases and sees nothing else.
db.getSiblingDB("admin").createUser({
  user: "catalogue",
  pwd: process.env.CATALOGUE_PASSWORD,
  roles: ["catalogue", "workshop"].map((db) => ({ role: "dbOwner", db })),
});
