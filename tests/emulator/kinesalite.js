// Starts kinesalite on a free port of loopback, behind TLS. SERVER_PEM holds its certificate and key.
//
// Prints one line of JSON, {"address":"127.0.0.1","port":N,...}, when it is ready. Its own command line listens on every interface
// of the machine, which no test should do.
'use strict';

const pem = process.env.SERVER_PEM;
const tls = { ssl: true, key: pem, cert: pem, ca: [] };
const server = require('kinesalite')({ createStreamMs: 10, updateStreamMs: 10, deleteStreamMs: 10, shardLimit: 50, ...tls });

server.on('error', (error) => {
  console.error(error.message);
  process.exit(1);
});
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify(server.address())));
