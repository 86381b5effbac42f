"""What the tests drive the daemon with: processes, admin client, lying upstreams, raw sockets."""
