//! The small tables of a file: as many of their rows as can be read, and how much can't.

use std::collections::BTreeSet;

use super::{
    pages::{PAGE_LEN, Page, Pages},
    row::{self, Node, Value},
    tree::{DEEPEST, Seen, Survey, walk},
};

/// What can't be read of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Pages; how many rows were on them is not known.
    pub pages: u64,
    /// Rows of which some part can't be read, or is not what was written.
    pub rows: u64,
}

impl Unread {
    /// Whether everything can be read.
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// Rows of a small table, with their ids. None where any page of it can't be read.
pub(super) fn rows(pages: &Pages, root: u32) -> Option<Vec<(i64, Vec<Value>)>> {
    let mut rows = Vec::new();
    let damaged = walk(pages, root, &mut Seen::new(pages), |_, page, cells| {
        rows.extend(cells.into_iter().map(|(id, cell)| Some((id, row::columns(pages, page, cell)?))));
    });
    (damaged == 0).then(|| rows.into_iter().collect()).flatten()
}

/// Shows `row` the columns of each row that a survey found, once; none where they can't be read.
pub(super) fn each(pages: &Pages, survey: &Survey, mut row: impl FnMut(Option<Vec<Value>>)) {
    // Where the tree is damaged a page that is not in use any more may have what another one has.
    let mut seen = BTreeSet::new();
    for (_, number) in &survey.leaves {
        let Some(Ok(page)) = pages.page(*number) else { continue };
        let Some(Node::Leaf(cells)) = row::node(*number, &page) else { continue };
        for (id, cell) in cells {
            if seen.insert(id) {
                row(row::columns(pages, &page, cell));
            }
        }
    }
}

/// What can't be read of the tree at `root`, a table's or an index's.
pub(super) fn unread(pages: &Pages, root: u32) -> Unread {
    let mut unread = Unread::default();
    let mut seen = Seen::new(pages);
    let mut stack = vec![(root, 0)];
    while let Some((number, depth)) = stack.pop() {
        // One that leads back to where it came from is a circle.
        let page = if depth < DEEPEST && seen.insert(number) { pages.page(number).and_then(Result::ok) } else { None };
        let page: &Page = page.as_ref().unwrap_or(&[0; PAGE_LEN]);
        let children: Vec<u32> = match row::node(number, page) {
            Some(Node::Inner(children)) => children.into_iter().map(|(_, child)| child).collect(),
            Some(Node::Leaf(cells)) => {
                unread.rows += cells.iter().filter(|(_, cell)| row::columns(pages, page, *cell).is_none()).count() as u64;
                continue;
            }
            None => match row::index_node(page) {
                Some(children) => children,
                None => {
                    unread.pages += 1;
                    continue;
                }
            },
        };
        stack.extend(children.into_iter().map(|child| (child, depth + 1)));
    }
    unread
}
