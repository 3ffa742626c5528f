//! End to end: somebody without any right over the host's network runs servers and clients in
//! containers of the user uplink, from beginning to end.

use std::time::{Duration, Instant};

use pontoon_tests::e2e::{Ordinary, sh, wait_for};

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
        let start = Instant::now();
        drop(server);
        wait_for(|| pontoon_tests::e2e::try_sh("ss -Hlnt | grep -q ':8080 '").status.code() == Some(1), "the port to be free");
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }

    /// curl, ping and a long transfer with its checksum in a container of an ordinary user.
    fn an_ordinary_user_reaches_what_the_host_reaches {
        lab.allow_pings();
        sh("mkdir /run/www && head -c 300000000 /dev/urandom > /run/www/page && chmod -R a+rX /run/www");
        let sum = sh("sha256sum < /run/www/page");
        let _server = lab.serve(
            "ext", "/usr/bin/python3 -m http.server -d /run/www --bind 198.51.100.10 80", 80);
        let user = Ordinary::new();
        let text = user.run(
            "$PONTOON network create out --uplink user && \
             $PONTOON run --network out -- sh -c \
             'curl -sS --fail --max-time 60 http://198.51.100.10/page | sha256sum && \
              ping -c2 -i0.2 -W2 198.51.100.10 && ! curl -sS --max-time 5 http://198.51.100.10:81/ 2>&1'");
        assert!(text.contains(sum.trim()), "{text}");
        assert!(text.contains("2 received") && text.contains("onnection refused")
            || text.contains("Failed to connect"), "{text}");
        assert!(user.run("$PONTOON status").contains("unprivileged"));
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
