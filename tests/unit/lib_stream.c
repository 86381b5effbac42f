/* lib_stream.c - see lib_stream.h. */
#include <string.h>

#include <stdio.h>

#include "lib_stream.h"

struct stream stream;
atomic_bool stream_go;

static void say_chunk(struct peer *p, const char *bytes, size_t len)
{
    char size[32];

    snprintf(size, sizeof(size), "%zx\r\n", len);
    peer_say(p, size);
    peer_say_bytes(p, bytes, len);
    peer_say(p, "\r\n");
}

static void say_to(struct peer *p, size_t *at, size_t end)
{
    while (*at < end) {
        size_t n = end - *at;

        if (stream.piece > 0 && n > stream.piece)
            n = stream.piece;
        say_chunk(p, stream.text + *at, n);
        *at += n;
    }
}

void peer_stream(struct peer *p)
{
    while (peer_read(p)) {
        size_t at = 0;

        peer_say(p, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nx-request-id: req_up\r\n"
                    "Transfer-Encoding: chunked\r\n\r\n");
        say_to(p, &at, stream.stop_at);
        while (stream.stop_at > 0 && !atomic_load(&stream_go))
            usleep(1000);
        say_to(p, &at, stream.len);
        if (stream.end == STREAM_HANGS)
            peer_wait_end(p);
        if (stream.end != STREAM_WHOLE)
            return;
        peer_say(p, "0\r\n\r\n");
    }
}

void stream_begin(const char *text, size_t piece, enum stream_end end)
{
    gw_begin(peer_stream);
    atomic_store(&stream_go, false);
    stream = (struct stream){.text = text, .len = strlen(text), .piece = piece, .end = end};
}
