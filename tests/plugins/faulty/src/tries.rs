//! What is tried of WASI: words of the config, and what came of them.

use std::{
    env, fs,
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

/// Tries one thing: what came of it, or the kind of its error.
///
/// | words | what is tried |
/// |---|---|
/// | `env NAME`, `env` | a variable, or the names of all |
/// | `read PATH`, `list PATH` | a file, or the names in a directory |
/// | `write PATH`, `append PATH`, `mkdir PATH`, `remove PATH` | changes |
/// | `link FROM TO`, `rename FROM TO` | a second name, another name |
/// | `fill PATH MIB` | a file that becomes so long |
/// | `open PATH COUNT` | a file, opened so often |
/// | `tcp ADDRESS`, `udp ADDRESS`, `listen ADDRESS` | connections: what the other side says after `hello` |
/// | `flood ADDRESS` | a connection into which it writes until nothing more is taken |
/// | `sleep MS` | time that passes |
pub(crate) fn outcome(words: &str) -> String {
    let mut parts = words.split(' ');
    let mut next = || parts.next().unwrap_or_default();
    let (what, first, second) = (next(), next(), next());
    let outcome = match what {
        "env" => Ok(variables(first)),
        "read" => fs::read_to_string(first),
        "list" => list(first),
        "write" => fs::write(first, "written").map(|()| String::new()),
        "append" => append(first),
        "mkdir" => fs::create_dir(first).map(|()| String::new()),
        "remove" => fs::remove_file(first).map(|()| String::new()),
        "link" => fs::hard_link(first, second).map(|()| String::new()),
        "rename" => fs::rename(first, second).map(|()| String::new()),
        "fill" => fill(first, second.parse().unwrap_or_default()),
        "open" => open(first, second.parse().unwrap_or_default()),
        "tcp" => greet(first),
        "flood" => flood(first),
        "udp" => UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(b"hello", first)).map(|_| String::new()),
        "listen" => TcpListener::bind(first).map(|_| String::new()),
        "sleep" => {
            thread::sleep(Duration::from_millis(first.parse().unwrap_or_default()));
            Ok(String::new())
        }
        _ => Err(io::ErrorKind::InvalidInput.into()),
    };
    match outcome {
        Ok(text) => format!("{words}: ok {text}"),
        Err(error) => format!("{words}: {:?}", error.kind()),
    }
}

fn variables(name: &str) -> String {
    if !name.is_empty() {
        return env::var(name).unwrap_or_else(|_| "is not set".into());
    }
    let mut names: Vec<String> = env::vars().map(|(name, _)| name).collect();
    names.sort();
    names.join(" ")
}

fn append(path: &str) -> io::Result<String> {
    fs::File::options().append(true).open(path)?.write_all(b" more")?;
    Ok(String::new())
}

fn list(path: &str) -> io::Result<String> {
    let names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<io::Result<Vec<String>>>()?;
    names.sort();
    Ok(names.join(" "))
}

fn fill(path: &str, mebibytes: usize) -> io::Result<String> {
    let file = fs::File::create(path)?;
    // Sparse, so that it costs nothing.
    file.set_len((mebibytes as u64) << 20)?;
    Ok(String::new())
}

fn open(path: &str, count: usize) -> io::Result<String> {
    let files: Vec<fs::File> = (0..count).map(|_| fs::File::open(path)).collect::<io::Result<_>>()?;
    Ok(files.len().to_string())
}

fn flood(address: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    loop {
        stream.write_all(&[0; 4096])?;
    }
}

fn greet(address: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"hello")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
