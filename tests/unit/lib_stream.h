/* lib_stream.h - an upstream that says an event stream, as a case has written it, in pieces of any size. */
#ifndef TG_TESTS_LIB_STREAM_H
#define TG_TESTS_LIB_STREAM_H

#include "lib_relay.h"

enum stream_end { STREAM_WHOLE = 0, STREAM_BROKEN, STREAM_HANGS };

struct stream {
    const char *text;
    size_t len;
    size_t piece; /* bytes a write; 0: all at once */
    enum stream_end end;
    size_t stop_at; /* waits there for stream_go; 0: nowhere */
};
extern struct stream stream;
extern atomic_bool stream_go;

void peer_stream(struct peer *p); /* says it, in chunks, to every request */

/* A case with this stream. */
void stream_begin(const char *text, size_t piece, enum stream_end end);

#define STREAM_CALL                                                                                                    \
    "{\"model\":\"gpt-image-1\",\"prompt\":\"a cat\",\"size\":\"1024x1024\",\"quality\":\"medium\",\"stream\":true,"   \
    "\"partial_images\":1"
#define STREAM_ONE STREAM_CALL "}"
#define STREAM_TWO STREAM_CALL ",\"n\":2}"

#define EVENT(name, members) "event: " name "\ndata: {\"type\":\"" name "\"," members "}\n\n"
#define PARTIAL EVENT("image_generation.partial_image", "\"b64_json\":\"UEFSVA==\",\"partial_image_index\":0")
#define COMPLETED_WITH(members) EVENT("image_generation.completed", "\"b64_json\":\"RE9ORQ==\"" members)
#define COMPLETED_USING(i, o, t)                                                                                       \
    COMPLETED_WITH(",\"size\":\"1024x1024\",\"quality\":\"medium\",\"usage\":{\"total_tokens\":" t                     \
                   ",\"input_tokens\":" i ",\"output_tokens\":" o ",\"input_tokens_details\":{\"text_tokens\":" i      \
                   ",\"image_tokens\":0}}")
#define COMPLETED COMPLETED_USING("10", "1156", "1166") /* 1056 tokens and a partial's 100 */
#define COMPLETED_CHARGE INT64_C(46290000)
#define DONE "data: [DONE]\n\n"
#define GAVE_UP                                                                                                        \
    EVENT("error", "\"error\":{\"message\":\"no\",\"type\":\"image_generation_user_error\",\"param\":null,"            \
                   "\"code\":\"moderation_blocked\"}")

#endif
