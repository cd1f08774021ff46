// The health check: it makes the replica set of one node, the first time, and is content when that node takes writes.
// During the image's first start there is no set to be made, and `initiate` throws: not ready yet.
const { MONGO_INITDB_ROOT_USERNAME: user, MONGO_INITDB_ROOT_PASSWORD: pwd } = process.env;
db.getSiblingDB("admin").auth(user, pwd);
try {
  rs.status();
} catch (error) {
  rs.initiate({ _id: "catalogue", members: [{ _id: 0, host: "mongodb:27017" }] });
  for (let asked = 0; asked < 50 && !db.hello().isWritablePrimary; asked++) sleep(100); // it elects itself in a moment
}
quit(db.hello().isWritablePrimary ? 0 : 1);
