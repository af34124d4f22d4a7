// De-aggregates Kinesis records with npm's aws-kinesis-agg.
//
// Reads lines of JSON, {"partitionKey": TEXT, "data": BASE64}, and answers each with one: a list of
// {"partitionKey", "explicitHashKey", "sub", "data"}, or {"error": TEXT}.
'use strict';

const readline = require('node:readline');
const { deaggregateSync } = require('aws-kinesis-agg');

function answer({ partitionKey, data }) {
  let answer;
  deaggregateSync({ partitionKey, sequenceNumber: '1', data }, true, (error, users) => {
    answer = error
      ? { error: String(error.message || error) }
      : users.map((user) => ({
          partitionKey: user.partitionKey,
          explicitHashKey: user.explicitPartitionKey ?? null,
          sub: user.subSequenceNumber ?? 0,
          data: Buffer.from(user.data, 'base64').toString('base64'),
        }));
  });
  return answer;
}

readline.createInterface({ input: process.stdin }).on('line', (line) => console.log(JSON.stringify(answer(JSON.parse(line)))));
