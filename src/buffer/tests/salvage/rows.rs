//! A row that is not what was written, in a file that SQLite finds nothing wrong with.

use super::*;

/// What a row says of itself, and no reader needs but the ledger.
const COLUMNS: [&str; 6] = ["readings", "earlier", "earlier_bytes", "ts", "run", "seq"];

impl Bench {
    /// Three readings; then a bit of the row of one of them is not what it was.
    async fn with_a_flipped(column: &str, bit: u8, of: u64) -> Self {
        let mut bench = Self::new();
        for n in 0..3 {
            bench.holds(text(n)).await;
        }
        let bench = bench.close().await;
        let file = rusqlite::Connection::open(&bench.settings.path).unwrap();
        let flip =
            format!("UPDATE chunk SET {column} = ({column} | (1 << {bit})) - ({column} & (1 << {bit})) WHERE id & 0xFF = {of}");
        assert_eq!(file.execute(&flip, []).unwrap(), 1);
        bench
    }
}

#[tokio::test]
async fn a_flipped_bit_of_what_a_row_says_of_itself_is_found_and_costs_nothing() {
    for column in COLUMNS {
        for bit in [0, 7, 40, 62] {
            for row in [0, 2] {
                let bench = Bench::with_a_flipped(column, bit, row).await.open();

                let came = bench.salvages().await;

                assert_eq!((came, bench.lost()), (vec![0, 1, 2], 0), "bit {bit} of {column} of row {row}");
                assert_eq!(bench.aside().len(), 1, "bit {bit} of {column} of row {row}");
            }
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_in_the_middle_is_found_when_the_drain_comes_there() {
    for column in COLUMNS {
        let mut bench = Bench::with_a_flipped(column, 20, 1).await.open();
        let first = bench.drained_until_it_ends().await;
        let Opened { buffer, closed, .. } = bench.opened.take().unwrap();
        drop(buffer);
        assert!(matches!(closed.await, Ok(BufferError::Damaged { .. })), "{column}");

        let bench = bench.open();
        let again = bench.salvages().await;

        assert!(first.iter().map(|data| number(data)).eq([0]), "{column}");
        assert!(again.ends_with(&[1, 2]) && bench.lost() == 0, "{column}: {again:?}, {}", bench.lost());
    }
}

#[tokio::test]
async fn an_earlier_versions_row_that_says_nonsense_of_itself_costs_nothing_and_no_number_is_believed() {
    for (column, bit) in COLUMNS.iter().flat_map(|column| [(column, 20), (column, 62)]) {
        let bench = Bench::with_a_flipped(column, bit, 1).await;
        let file = rusqlite::Connection::open(&bench.settings.path).unwrap();
        file.execute("UPDATE chunk SET crc = crc & 0xFFFFFFFF", []).unwrap();
        drop(file);
        store::quarantine(&bench.settings.path, Timestamp(0)).unwrap();

        let bench = bench.open();
        let came = bench.salvages().await;

        assert_eq!(came, [0, 1, 2], "bit {bit} of {column}");
        assert!(bench.lost() < 100_000, "bit {bit} of {column}: {}", bench.lost());
    }
}
