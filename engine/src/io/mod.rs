//! The shell: sockets, namespaces, threads and clocks.
