//! End to end: somebody without any right over the host's network runs servers and clients in
//! containers of the user uplink, from beginning to end.

use pontoon_tests::e2e::{Ordinary, sh, wait_for};

const STREAM: &str = include_str!("../src/e2e/stream.py");
/// Bytes of the long download.
const DOWNLOAD: u64 = 2 << 30;
/// Three commits in /run/git/work, with a large file and many small ones each.
const GENERATE_REPOSITORY: &str = "export HOME=/run; mkdir -p /run/git/work; cd /run/git/work; \
    git init -q -b main; git config user.name A; git config user.email a@example.org; \
    git config core.compression 0; git config core.bigFileThreshold 1m; \
    for n in 1 2 3; do head -c 20000000 /dev/urandom > large$n; \
    for m in $(seq 700); do echo $n $m > $n-$m; done; \
    git add .; git commit -q -m $n; done";

pontoon_tests::user_laboratory_tests! { |lab|
    /// A web server with a published port, fetched from the host and from the LAN; its log shows both.
    fn an_ordinary_user_publishes_a_web_server {
        sh("mkdir /run/www && head -c 3000000 /dev/urandom > /run/www/page && chmod -R a+rX /run/www");
        // The ready one asks for the name of its address before it serves.
        std::fs::write("/run/www/server.py", "import http.server as h, os, socketserver\n\
            class Server(h.ThreadingHTTPServer):\n    server_bind = socketserver.TCPServer.server_bind\n\
            os.chdir(\"/run/www\")\ns = Server((\"\", 80), h.SimpleHTTPRequestHandler)\n\
            print(\"serving\")\ns.serve_forever()\n").expect("a writable /run");
        let user = Ordinary::new();
        let server = user.spawn(
            "$PONTOON network create out --uplink user && \
             exec $PONTOON run --network out --name web -p 8080:80 -- \
             /usr/bin/python3 -u /run/www/server.py");
        wait_for(|| user.log().contains("serving"), "the server");
        lab.run("ext", "curl -sS --fail --max-time 10 -o /run/copy http://192.0.2.1:8080/page");
        sh("cmp /run/www/page /run/copy && rm /run/copy");
        sh("curl -sS --fail --max-time 10 -o /run/copy http://127.0.0.1:8080/page && cmp /run/www/page /run/copy");
        let log = user.log();
        // The user's first networks are 172.17.0.0/16 and 172.18.0.0/16.
        for client in ["192.0.2.254 - - ", "172.18.0.1 - - "] {
            assert!(log.contains(client), "{client} is not in the log:\n{log}");
        }
        drop(server);
        wait_for(|| pontoon_tests::e2e::try_sh("ss -Hlnt | grep -q ':8080 '").status.code() == Some(1), "the port to be free");
    }

    /// ping, what is refused, and a download of two gigabytes whose checksum is right, by curl, in a
    /// container of an ordinary user.
    fn an_ordinary_user_reaches_what_the_host_reaches {
        lab.allow_pings();
        std::fs::write("/run/stream.py", STREAM).expect("a writable /run");
        let server = format!("/usr/bin/python3 /run/stream.py 198.51.100.10 {DOWNLOAD} /run/sum");
        let _server = lab.serve("ext", &server, 80);
        let user = Ordinary::new();
        let text = user.run(
            "$PONTOON network create out --uplink user && \
             $PONTOON run --network out -- sh -c \
             'curl -sS --fail http://198.51.100.10/ | /usr/bin/python3 -c \
              \"import hashlib, sys; print(hashlib.file_digest(sys.stdin.buffer, \\\"sha256\\\").hexdigest())\" && \
              ping -c2 -i0.2 -W10 198.51.100.10 && ! curl -sS --max-time 5 http://198.51.100.10:81/ 2>&1'");
        let sum = sh("cat /run/sum");
        assert!(sum.len() == 64 && text.contains(&sum), "{sum}:\n{text}");
        assert!(text.contains("2 received") && text.contains("onnection refused")
            || text.contains("Failed to connect"), "{text}");
        assert!(user.run("$PONTOON status").contains("unprivileged"));
    }

    /// A repository of some thousand files and sixty megabytes is cloned from a server outside, by git, in
    /// a container of an ordinary user; every object in it is sound.
    fn an_ordinary_user_clones_a_repository {
        sh(GENERATE_REPOSITORY);
        let _server = lab.serve(
            "ext", "git daemon --export-all --base-path=/run/git --reuseaddr --listen=198.51.100.10", 9418);
        let head = sh("git -C /run/git/work rev-parse HEAD");
        let user = Ordinary::new();
        let cloned = user.run(
            "$PONTOON network create out --uplink user && \
             $PONTOON run --network out -- sh -ec \
             'export HOME=/run/ordinary; git clone -q git://198.51.100.10/work /run/ordinary/copy; \
              cd /run/ordinary/copy; git fsck --full --no-progress; git rev-parse HEAD; ls | wc -l'");
        assert!(cloned.ends_with(&format!("\n{head}2103\n")), "{cloned}");
    }

    /// Two containers of an ordinary user with the same published port of two addresses, and a third one
    /// that wants what is taken.
    fn an_ordinary_user_is_told_who_has_a_port {
        let user = Ordinary::new();
        let said = user.run(
            "$PONTOON network create out --uplink user && \
             $PONTOON run -d --network out --name a -p 192.0.2.1:8080:80 -- sleep 60 && \
             $PONTOON run -d --network out --name b -p 192.0.2.2:8080:80 -- sleep 60 && \
             ! $PONTOON run -d --network out --name c -p 8080:80 -- sleep 60 2>&1 && \
             ! $PONTOON run -d --network out --name d -p 80:80 -- sleep 60 2>&1");
        assert!(said.contains("already allocated to a") || said.contains("already allocated to b"), "{said}");
        assert!(said.contains("ip_unprivileged_port_start"), "{said}");
    }
}
