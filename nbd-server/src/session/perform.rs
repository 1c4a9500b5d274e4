//! One request, from the moment its payload is here to its reply.

use super::connection::InFlight;
use super::{Connection, Permit};
use crate::export::{Device, DeviceError, Export, Zeroing};
use crate::protocol::{Operation, Refusal, Request, reply, wire};
use crate::server::Stats;
use std::rc::Rc;
use treering_io::Buffer;

pub struct Work<D> {
    pub connection: Rc<Connection>,
    pub export: Rc<Export<D>>,
    pub stats: Stats,
    pub structured: bool,
    pub request: Request,
    pub payload: Option<Buffer>,
    pub permit: Permit,
    pub in_flight: InFlight,
}

impl<D: Device> Work<D> {
    pub async fn run(self) {
        let Work { connection, export, stats, structured, request, payload, permit, in_flight } = self;
        let Request { cookie, operation } = request;
        let device = &export.device;
        stats.count_request(&operation);
        let outcome: Result<(), Refusal> = async {
            if operation.modifies() && !export.claim.is_held() {
                export.claim.take().await?;
            }
            match operation {
                Operation::Read { offset, len } => {
                    let data = read(device, offset, len as usize).await?;
                    match (structured, len) {
                        (true, 0) => connection.reply(&reply::no_data(cookie)),
                        (true, _) => {
                            connection.reply_with_data(&reply::data_chunk(cookie, offset, len), data, permit);
                        }
                        (false, _) => connection.reply_with_data(&reply::simple_data(cookie), data, permit),
                    }
                    return Ok(());
                }
                Operation::BlockStatus { offset, len, one } => {
                    let max = if one { 1 } else { wire::MAXIMUM_EXTENTS };
                    let extents = device.extents(offset, u64::from(len), max).await?;
                    assert!(extents.first().is_some_and(|e| e.len > 0), "a device must know at least one extent");
                    let count = extents.len().min(max);
                    connection.reply(&reply::block_status(cookie, len, &extents[..count]));
                    return Ok(());
                }
                Operation::Write { len: 0, .. }
                | Operation::Trim { len: 0, .. }
                | Operation::WriteZeroes { len: 0, .. } => {}
                Operation::Write { offset, fua, .. } => {
                    let payload = payload.expect("a write that was started has its payload");
                    device.write(offset, &payload, fua).await?;
                }
                Operation::Trim { offset, len, fua } => {
                    device.trim(offset, u64::from(len), fua).await?;
                }
                Operation::WriteZeroes { offset, len, keep_allocated, fua } => {
                    let zeroing = if keep_allocated { Zeroing::Allocated } else { Zeroing::Hole };
                    device.zero(offset, u64::from(len), zeroing, fua).await?;
                }
                Operation::Flush => device.flush().await?,
                Operation::Cache { offset, len } => device.prefetch(offset, u64::from(len)).await?,
                Operation::Disconnect => unreachable!("the receiving half ends at a disconnect"),
            }
            connection.reply(&reply::done(cookie));
            Ok(())
        }
        .await;
        if let Err(refusal) = outcome {
            stats.count_failed();
            tracing::debug!(export = export.name(), ?operation, errno = ?refusal.errno, "failed: {}", refusal.text);
            connection.reply(&reply::error(cookie, structured, &refusal));
        }
        // The claim on the volume must outlast the request: first the export goes, then the request counts as answered.
        drop(export);
        drop(in_flight);
    }
}

async fn read<D: Device>(device: &D, offset: u64, len: usize) -> Result<Buffer, DeviceError> {
    if len == 0 {
        return Ok(Buffer::with_len(0));
    }
    let data = device.read(offset, len).await?;
    assert_eq!(data.len(), len, "a device must read all or fail");
    Ok(data)
}
