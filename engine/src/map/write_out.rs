//! Gives every changed node a page, children before parents, and writes them.
//!
//! Nodes are copied into their pages as they come, so that readers can go on with the tree as it was; what is copied and not
//! yet written is bounded by the writer. Nothing is synced, and nothing refers to the new pages before the caller says so.

use std::pin::Pin;
use std::rc::Rc;

use treering_format::node::{NODE_BYTES, Node, NodeHeader, NodeRef, TreeKind};
use treering_format::units::LogAddress;
use treering_io::Buffer;

use super::child::{Branch, Child};
use super::tree::Tree;
use crate::pages::{Page, PageBytes, PageError, PageWriter, Pages};

struct WriteOut<'a> {
    pages: &'a Pages,
    writer: PageWriter<'a>,
    kind: TreeKind,
    owner: u64,
    birth: LogAddress,
}

impl Tree {
    /// Writes every node that is not on disk, as born at `birth`; afterwards the tree is clean. The caller has seen to it that
    /// as many pages are available as nodes are dirty. Returns the root, None for the empty tree.
    pub async fn write_out(&mut self, pages: &Pages, birth: LogAddress) -> Result<Option<NodeRef>, PageError> {
        let Some(root) = &self.root else { return Ok(None) };
        let writer = PageWriter::new(pages, self.kind.name());
        let mut out = WriteOut { pages, writer, kind: self.kind, owner: self.owner, birth };
        let reference = out.child(root).await?;
        out.writer.finish().await?;
        self.root = Some(Child::Stored(reference));
        self.dirty = 0;
        Ok(Some(reference))
    }
}

impl WriteOut<'_> {
    async fn child(&mut self, child: &Child) -> Result<NodeRef, PageError> {
        match child {
            Child::Stored(reference) => Ok(*reference),
            Child::Leaf(leaf) => self.leaf(leaf).await,
            Child::Branch(branch) => self.branch(Rc::clone(branch)).await,
        }
    }

    async fn leaf(&mut self, leaf: &Page) -> Result<NodeRef, PageError> {
        let copy = leaf.clone().map(|bytes| Buffer::from(&bytes[..]));
        self.place(copy, 0).await
    }

    /// Boxed, for it calls itself; once for each branch, not for each leaf.
    fn branch(&mut self, branch: Rc<Branch>) -> Pin<Box<dyn Future<Output = Result<NodeRef, PageError>> + '_>> {
        Box::pin(async move {
            let mut children = Vec::with_capacity(branch.children.len());
            for (low, child) in &branch.children {
                children.push((*low, self.child(child).await?));
            }
            let youngest = children.iter().map(|(_, child)| child.birth).max();
            assert!(youngest <= Some(self.birth), "a page born at {} has a child born at {youngest:?}", self.birth);
            let page = Branch::lay_out(&children, Buffer::with_len(NODE_BYTES));
            self.place(page, branch.level).await
        })
    }

    async fn place(&mut self, mut node: Node<Buffer>, level: u8) -> Result<NodeRef, PageError> {
        let page = self.pages.allocate().ok_or(PageError::no_space(self.kind.name()))?;
        node.set_header(&NodeHeader { kind: self.kind, level, owner: self.owner, birth: self.birth, page });
        let checksum = node.checksum();
        self.writer.push(page, node.map(PageBytes::from)).await?;
        Ok(NodeRef { page, checksum, level, birth: self.birth })
    }
}
