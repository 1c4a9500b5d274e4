//! Steps of a trace that make or undo history. Each verb is durable when it returns.

use std::cell::OnceCell;
use std::rc::Rc;

use treering_engine::{NewSnapshot, SnapshotRef, Store};

use super::traces::Step;
use crate::content::{self, BLOCK};
use crate::model::{Ancestor, Change, Piece, Position, publish_blocks, write_pieces};
use crate::world::World;

const DOT: &str = "dot";

/// Performs a step of history; None: it is another kind of step. Gives the position behind it.
pub(super) async fn perform(world: &World, store: &Store, operation: u64, step: Step) -> Option<Position> {
    let at = |snapshot: &str| SnapshotRef::Name(snapshot.into());
    let ancestor = |snapshot: &str| Ancestor { dot: DOT.into(), snapshot: snapshot.into() };
    let new_volume = || world.journal.borrow_mut().new_volume();
    let (done, last) = match step {
        Step::Snapshot { name } => {
            let change = Change::Snapshot { dots: vec![DOT.into()], name: name.into(), protected: false };
            let new = NewSnapshot { name: Some(name.into()), ..NewSnapshot::default() };
            let dots = [DOT];
            let (result, last) =
                world.observe(store, operation, vec![Piece::Change(change)], store.create_snapshot(&dots, &new)).await;
            (result.map(drop), last)
        }
        Step::Delete { snapshot } => {
            let change = Change::DeleteSnapshots { dot: DOT.into(), names: vec![snapshot.into()] };
            let names = [at(snapshot)];
            let verb = store.delete_snapshots(DOT, &names);
            let (result, last) = world.observe(store, operation, vec![Piece::Change(change)], verb).await;
            (result.map(drop), last)
        }
        Step::Fork { snapshot, name } => {
            let volume = new_volume();
            let change = Change::Fork { from: ancestor(snapshot), name: name.into(), volumes: vec![volume] };
            let (at, names) = (at(snapshot), [name.to_owned()]);
            let verb = store.fork(DOT, &at, &names, None);
            let (result, last) = world.observe(store, operation, vec![Piece::Change(change)], verb).await;
            result.expect("nothing fails here");
            world.make_durable(last);
            let forked = store.volume(name, "v").expect("a fork has its source's volumes");
            let data = content::bytes(operation, BLOCK as usize, false);
            let pieces = write_pieces(volume, BLOCK, &data, publish_blocks(super::SEGMENT_BLOCKS));
            let (result, last) = world.observe(store, operation, pieces, forked.write(BLOCK, &data, true)).await;
            (result.map_err(Into::into), last)
        }
        Step::Reset { snapshot } => {
            let kept = Rc::new(OnceCell::new());
            let volumes = vec![new_volume()];
            let change = Change::Reset { to: ancestor(snapshot), kept: Rc::clone(&kept), volumes };
            let at = at(snapshot);
            let (result, last) =
                world.observe(store, operation, vec![Piece::Change(change)], store.reset(DOT, &at)).await;
            if let Ok(info) = &result {
                world.journal.borrow_mut().name_reflog(DOT, &kept, &info.name);
            }
            (result.map(drop), last)
        }
        Step::RemoveFork { name } => {
            let change = Change::RemoveDot { name: name.into() };
            world.observe(store, operation, vec![Piece::Change(change)], store.remove_dot(name)).await
        }
        _ => return None,
    };
    done.expect("nothing fails here");
    Some(last)
}
