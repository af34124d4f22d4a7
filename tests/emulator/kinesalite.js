// Starts kinesalite on loopback: `node kinesalite.js PORT`, 0 for a free one.
//
// Prints one line of JSON, {"address":"127.0.0.1","port":N,...}, when it is ready. Its own command line listens on every interface
// of the machine, which no test should do.
'use strict';

const server = require('kinesalite')({ createStreamMs: 10, updateStreamMs: 10, deleteStreamMs: 10, shardLimit: 50 });

server.on('error', (error) => {
  console.error(error.message);
  process.exit(1);
});
server.listen(Number(process.argv[2] || 0), '127.0.0.1', () => console.log(JSON.stringify(server.address())));
