//! Steps that reach for the world outside, which no instance can touch unless somebody gave it a piece.

use std::{
    fs,
    net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket},
};

use crate::{
    outcome::{Outcome, Problem, show},
    step::Step,
};

pub(crate) fn take(mut step: Step<'_>) -> Outcome {
    match step.name() {
        "file" => Ok(format!("read {}", show(&fs::read(step.text("a path")?)?))),
        "write" => {
            fs::write(step.text("a path")?, "written by the probe")?;
            Ok("written".to_owned())
        }
        "dir" => directory(if step.is_done() { "/".to_owned() } else { step.text("a path")? }),
        "connect" => {
            TcpStream::connect(step.text("an address")?)?;
            Ok("connected".to_owned())
        }
        "listen" => {
            Ok(format!("listening on {}", TcpListener::bind(step.text("an address")?)?.local_addr()?))
        }
        "udp" => {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            let sent = socket.send_to(b"probe", step.text("an address")?)?;
            Ok(format!("sent {sent} bytes"))
        }
        "resolve" => {
            let addresses = (step.text("a name")?, 80).to_socket_addrs()?;
            Ok(addresses.fold("found".to_owned(), |line, address| format!("{line} {}", address.ip())))
        }
        other => Err(Problem::Other(format!("no step is called `{other}`"))),
    }
}

fn directory(path: String) -> Outcome {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names.into_iter().fold("entries".to_owned(), |line, name| format!("{line} {}", show(name.as_bytes()))))
}
