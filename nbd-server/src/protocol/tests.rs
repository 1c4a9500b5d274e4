//! The protocol machines against every option and request, well-formed and not.

mod handshake;
mod reply;
mod smoke;
mod transmission;

use super::{Directory, Listing, NotExported, Rules, wire};

const SIZE: u64 = 1 << 30;

/// Two exports: `shop.pg` for writing, `shop.old` read-only and of an odd size.
struct Shop;

impl Directory for Shop {
    fn list(&self) -> Vec<Listing> {
        vec![self.find("shop.pg").expect("there"), self.find("shop.old").expect("there")]
    }

    fn find(&self, name: &str) -> Result<Listing, NotExported> {
        let listing = |size, read_only| Listing {
            name: name.to_owned(),
            description: format!("the volume {name}"),
            size,
            read_only,
        };
        match name {
            "" | "shop" | "shop.pg" => Ok(Listing { name: "shop.pg".into(), ..listing(SIZE, false) }),
            "shop.old" => Ok(listing(SIZE + 1, true)),
            "shop@v1" => Err(NotExported::Refused("no history yet".into())),
            _ => Err(NotExported::Unknown(format!("no export is named {name}"))),
        }
    }
}

fn rules() -> Rules {
    Rules { size: SIZE, read_only: false, structured_replies: true, allocation_context: true, block_size: None }
}

fn client_flags(flags: u32) -> Vec<u8> {
    flags.to_be_bytes().to_vec()
}

fn option(option: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = wire::OPTION_MAGIC.to_be_bytes().to_vec();
    bytes.extend_from_slice(&option.to_be_bytes());
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn info_payload(name: &str, items: &[u16]) -> Vec<u8> {
    let mut bytes = (name.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(&(items.len() as u16).to_be_bytes());
    items.iter().for_each(|item| bytes.extend_from_slice(&item.to_be_bytes()));
    bytes
}

fn meta_payload(name: &str, queries: &[&str]) -> Vec<u8> {
    let mut bytes = (name.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(&(queries.len() as u32).to_be_bytes());
    for query in queries {
        bytes.extend_from_slice(&(query.len() as u32).to_be_bytes());
        bytes.extend_from_slice(query.as_bytes());
    }
    bytes
}

fn request(flags: u16, command: u16, cookie: u64, offset: u64, len: u32) -> Vec<u8> {
    let mut bytes = wire::REQUEST_MAGIC.to_be_bytes().to_vec();
    bytes.extend_from_slice(&flags.to_be_bytes());
    bytes.extend_from_slice(&command.to_be_bytes());
    bytes.extend_from_slice(&cookie.to_be_bytes());
    bytes.extend_from_slice(&offset.to_be_bytes());
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes
}
