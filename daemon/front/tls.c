/* tls.c - one SSL_CTX a listener: TLS 1.2 and later, ALPN h2 and http/1.1. Main thread, before the loops. */
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "inside.h"

static enum err_code fail(struct err *err, const char *param, const char *path)
{
    char why[LIMIT_ERROR_MESSAGE / 2];

    ERR_error_string_n(ERR_get_error(), why, sizeof(why));
    return err_set(err, ERR_INVALID_VALUE, param, "%s: %s", path, why);
}

enum err_code tls_open(const struct front_listener *listener, SSL_CTX **out, struct err *err)
{
    static char h2[] = "h2", http1[] = "http/1.1"; /* the library wants them writable, and never writes */
    static const h2o_iovec_t both[] = {{h2, sizeof(h2) - 1}, {http1, sizeof(http1) - 1}, {NULL, 0}};
    static const unsigned char session_context[] = "tallygate";
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    enum err_code code = ERR_OK;

    TG_ASSERT(tls != NULL);
    (void)SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION);
    (void)SSL_CTX_set_options(tls, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    (void)SSL_CTX_set_session_id_context(tls, session_context, sizeof(session_context) - 1);
    h2o_ssl_register_alpn_protocols(tls, listener->http2 ? both : both + 1);
    if (SSL_CTX_use_certificate_chain_file(tls, listener->tls_certificate) != 1)
        code = fail(err, "tls_certificate", listener->tls_certificate);
    else if (SSL_CTX_use_PrivateKey_file(tls, listener->tls_key, SSL_FILETYPE_PEM) != 1 ||
             SSL_CTX_check_private_key(tls) != 1)
        code = fail(err, "tls_key", listener->tls_key);
    if (code != ERR_OK) {
        SSL_CTX_free(tls);
        return code;
    }
    *out = tls;
    return ERR_OK;
}
