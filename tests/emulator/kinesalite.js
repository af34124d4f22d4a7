// A Kinesis that we did not write, on a free loopback port, which it prints. It ends with whoever started it.
const options = { createStreamMs: 10, updateStreamMs: 10, deleteStreamMs: 10, shardLimit: 50 };
const kinesis = require('kinesalite')(options);
kinesis.listen(0, '127.0.0.1', () => console.log(kinesis.address().port));
process.stdin.resume().on('end', () => process.exit());
