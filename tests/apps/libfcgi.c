/* libfcgi with threads that share one listening socket; see README.md. Argument: the number of threads.
 * A Filter answers the length and SHA-256 of its DATA, an Authorizer lets nobody in without `allow` in the query. */
#include <errno.h>
#include <fcgiapp.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "sha256.h"

/* Value of `name` in the query, in a buffer of the caller; NULL: it is not there. */
static const char *find(FCGX_Request *request, const char *name, char *buffer, size_t size) {
    const char *query = FCGX_GetParam("QUERY_STRING", request->envp);
    size_t length = strlen(name);
    while (query && *query) {
        const char *end = strchrnul(query, '&');
        if (strncmp(query, name, length) == 0 && (query[length] == '=' || query + length == end)) {
            const char *value = query[length] == '=' ? query + length + 1 : end;
            snprintf(buffer, size, "%.*s", (int)(end - value), value);
            return buffer;
        }
        query = *end ? end + 1 : end;
    }
    return NULL;
}

static long number(FCGX_Request *request, const char *name) {
    char text[64];
    return find(request, name, text, sizeof text) ? atol(text) : 0;
}

static int has(FCGX_Request *request, const char *name) {
    char text[512];
    return find(request, name, text, sizeof text) != NULL;
}

static void pause_ms(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    while (ms > 0 && nanosleep(&time, &time) != 0 && errno == EINTR) {}
}

static const char *param(FCGX_Request *request, const char *name) {
    const char *value = FCGX_GetParam(name, request->envp);
    return value ? value : "";
}

/* Reads a stream to its end; gives its length, or that negated and reduced by one when it broke. */
static long digest(FCGX_Stream *in, char text[65]) {
    struct sha256 sum;
    char *bytes = malloc(65536);
    int count;
    sha256_start(&sum);
    while ((count = FCGX_GetStr(bytes, 65536, in)) > 0) sha256_add(&sum, bytes, count);
    free(bytes);
    long length = sum.length;
    sha256_end(&sum, text);
    return FCGX_GetError(in) == 0 ? length : -length - 1;
}

static void note(FCGX_Request *request, const char *what, int error) {
    char path[512], token[256];
    FILE *file = fopen(find(request, "log", path, sizeof path) ? path : "/dev/null", "a");
    if (!file) return;
    const char *name = find(request, "token", token, sizeof token);
    if (error) fprintf(file, "%s %s failed: %d\n", name ? name : "", what, error);
    else fprintf(file, "%s %s%s\n", name ? name : "", what, strcmp(what, "start") == 0 ? "" : " whole");
    fclose(file);
}

static void head(FCGX_Request *request, const char *more) {
    char token[256];
    const char *name = find(request, "token", token, sizeof token);
    FCGX_FPrintF(request->out, "Content-Type: text/plain\r\nX-Token: %s\r\nX-Method: %s\r\nX-Application: libfcgi\r\n%s\r\n",
                 name ? name : "", param(request, "REQUEST_METHOD"), more);
}

static void size(FCGX_Request *request) {
    long left = number(request, "size"), line = number(request, "seed") * 1000000;
    char *block = malloc(65537);
    head(request, "");
    for (; left > 0; line++) {
        for (int i = 0; i < 4096; i++) sprintf(block + 16 * i, "%015ld\n", line);
        int count = left < 65536 ? left : 65536;
        if (FCGX_PutStr(block, count, request->out) != count) break;
        left -= count;
    }
    free(block);
}

static void stream(FCGX_Request *request) {
    long count = number(request, "stream"), ms = number(request, "pause");
    head(request, "");
    for (long i = 0; i < count; i++) {
        if (i > 0) pause_ms(ms);
        FCGX_FPrintF(request->out, "chunk %ld\n", i);
        FCGX_FFlush(request->out);
    }
}

static void watch(FCGX_Request *request) {
    char how[64], sum[65];
    note(request, "start", 0);
    if (strcmp(find(request, "watch", how, sizeof how), "read") == 0) {
        long length = digest(request->in, sum);
        note(request, "read", length < 0 ? FCGX_GetError(request->in) : 0);
        head(request, "");
        FCGX_FPrintF(request->out, "read\n");
        return;
    }
    head(request, "");
    for (long left = number(request, "ms"); left > 0; left -= 20) {
        FCGX_FPrintF(request->out, "watch\n");
        if (FCGX_FFlush(request->out) != 0) {
            note(request, "write", FCGX_GetError(request->out));
            return;
        }
        pause_ms(20);
    }
    note(request, "write", 0);
}

static void echo(FCGX_Request *request) {
    char sum[65], more[128], token[256];
    long length = digest(request->in, sum);
    snprintf(more, sizeof more, "X-Length: %ld\r\nX-Sha256: %s\r\n", length, sum);
    head(request, more);
    const char *name = find(request, "token", token, sizeof token - 1);
    if (has(request, "n")) {
        char *word = strcat(token, " ");
        size_t left = number(request, "n"), step = strlen(word);
        for (; name && left > 0; left -= step < left ? step : left) FCGX_PutStr(word, step < left ? step : left, request->out);
        return;
    }
    const char *shown[] = {"REQUEST_METHOD", "QUERY_STRING", "CONTENT_TYPE", "HTTP_X_TEST", "X_PARAM"};
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        FCGX_FPrintF(request->out, "%s=%s\n", shown[i], param(request, shown[i]));
    struct sha256 hash;
    const char *value = param(request, "X_LONG");
    sha256_start(&hash);
    sha256_add(&hash, value, strlen(value));
    sha256_end(&hash, sum);
    FCGX_FPrintF(request->out, "X_LONG=%d %s\n", (int)strlen(value), sum);
}

static void respond(FCGX_Request *request) {
    char text[256], sum[65];
    pause_ms(number(request, "sleep"));
    if (has(request, "size")) size(request);
    else if (has(request, "stream")) stream(request);
    else if (has(request, "upload")) {
        long length = digest(request->in, sum);
        head(request, "");
        FCGX_FPrintF(request->out, "%ld %s\n", length, sum);
    } else if (has(request, "early")) {
        head(request, "");
        FCGX_FPrintF(request->out, "early\n");
    } else if (find(request, "stderr", text, sizeof text)) {
        FCGX_FPrintF(request->err, "%s\n", text);
        FCGX_FFlush(request->err);
        head(request, "");
        FCGX_FPrintF(request->out, "stderr\n");
    } else if (has(request, "watch")) watch(request);
    else echo(request);
}

static void authorize(FCGX_Request *request) {
    if (has(request, "allow")) FCGX_FPrintF(request->out, "Status: 200 OK\r\nVariable-USER: somebody\r\n\r\n");
    else FCGX_FPrintF(request->out, "Status: 403 Forbidden\r\nContent-Type: text/plain\r\n\r\nforbidden\n");
}

static void filter(FCGX_Request *request) {
    char body[65], data[65];
    long length = digest(request->in, body);
    FCGX_StartFilterData(request->in);
    long more = digest(request->in, data);
    head(request, "");
    FCGX_FPrintF(request->out, "STDIN %ld %s\nDATA %ld %s\n", length, body, more, data);
}

static void *work(void *unused) {
    FCGX_Request request;
    (void)unused;
    FCGX_InitRequest(&request, 0, 0);
    while (FCGX_Accept_r(&request) == 0) {
        const char *role = param(&request, "FCGI_ROLE");
        if (strcmp(role, "AUTHORIZER") == 0) authorize(&request);
        else if (strcmp(role, "FILTER") == 0) filter(&request);
        else respond(&request);
        FCGX_Finish_r(&request);
    }
    return NULL;
}

int main(int count, char **arguments) {
    FCGX_Init();
    /* libfcgi catches SIGTERM to stop between two requests, which a thread in accept() never notices. */
    signal(SIGTERM, SIG_DFL);
    for (int more = count > 1 ? atoi(arguments[1]) : 1; more > 1; more--) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, NULL) != 0) return 1;
    }
    work(NULL);
    return 0;
}
