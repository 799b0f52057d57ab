/* What the programs of the benchmark share: time, sockets, the opening handshake, frames.
 *
 * Compiled with TLS defined, a program speaks TLS with its server, as far as it uses send_some()
 * and receive_some(). It does not check the certificate.
 *
 * Each program drives one server on 127.0.0.1 with one thread and one epoll loop. It prints
 * "ready" when its measurement begins and one line of JSON at the end. Whatever goes wrong ends
 * it with a line on standard error and status 1: a result is never that of half the work.
 */
#ifndef COMMON_H
#define COMMON_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#endif

enum {
    RECEIVE_SIZE = 1 << 18, /* bytes asked of one recv() */
    EVENTS = 512,           /* of one epoll_wait() */
    STALLED_MS = 10000,     /* a server that is silent for so long has failed */
    OPCODE_BINARY = 2,
    OPCODE_CLOSE = 8,
};

/* The key and the answer to it that RFC 6455 section 1.3 has as its example. */
#define WEBSOCKET_KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define WEBSOCKET_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

__attribute__((noreturn, format(printf, 1, 2))) static inline void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static inline void *allocate(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (memory == NULL)
        fail("out of memory");
    return memory;
}

/* -- Time --------------------------------------------------------------------------------- */

static inline uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Seconds of CPU that this program has used so far, in user space and in the kernel. */
static inline double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* One measurement: a fifth of its length to warm up, then "ready", then the part that counts. */
struct measurement {
    uint64_t begins, ends; /* as now_ns() */
    double cpu;            /* cpu_seconds() when it began */
    bool running;
    uint64_t count;      /* what was done since it began */
    uint64_t unanswered; /* of them, the sessions whose Close the server did not answer */
    uint32_t *latencies; /* of each of them, in microseconds; the first `latency_limit` */
};

enum { LATENCY_LIMIT = 1 << 24 };

static inline struct measurement plan_measurement(double seconds) {
    uint64_t now = now_ns();
    return (struct measurement){
        .begins = now + (uint64_t)(seconds * 0.2e9),
        .ends = now + (uint64_t)(seconds * 1.2e9),
        .latencies = allocate(LATENCY_LIMIT, sizeof(uint32_t)),
    };
}

/* Call this between rounds of epoll_wait(); false when the time is over and something was done. */
static inline bool measuring(struct measurement *measurement) {
    uint64_t now = now_ns();
    if (!measurement->running && now >= measurement->begins) {
        puts("ready");
        fflush(stdout);
        measurement->running = true;
        measurement->cpu = cpu_seconds();
        measurement->begins = now;
    }
    return now < measurement->ends || measurement->count == 0;
}

/* Something that was begun at `started` (as now_ns()) is done. */
static inline void count_one(struct measurement *measurement, uint64_t started) {
    if (!measurement->running)
        return;
    if (measurement->count < LATENCY_LIMIT)
        measurement->latencies[measurement->count] = (uint32_t)((now_ns() - started) / 1000);
    measurement->count++;
}

static inline int compare_latencies(const void *left, const void *right) {
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static inline void print_measurement(struct measurement *measurement) {
    double wall = (double)(now_ns() - measurement->begins) / 1e9;
    double cpu = cpu_seconds() - measurement->cpu;
    uint64_t count = measurement->count;
    size_t known = count < LATENCY_LIMIT ? count : LATENCY_LIMIT;
    qsort(measurement->latencies, known, sizeof(uint32_t), compare_latencies);
    printf("{\"rate\": %.3f, \"p99_us\": %u, \"unanswered\": %.6f, "
           "\"wall_s\": %.6f, \"cpu_s\": %.6f}\n",
           (double)count / wall, measurement->latencies[known * 99 / 100],
           (double)measurement->unanswered / (double)count, wall, cpu);
    fflush(stdout);
    /* The connections stay open until the server's threads have been looked at. */
    while (getchar() != EOF)
        ;
}

/* -- Sockets ------------------------------------------------------------------------------ */

#ifdef TLS
enum { DESCRIPTORS = 1 << 16 };
static SSL *tls_of[DESCRIPTORS]; /* by descriptor */

static inline void begin_tls(int fd) {
    static SSL_CTX *context;
    if (context == NULL && (context = SSL_CTX_new(TLS_client_method())) == NULL)
        fail("out of memory");
    if (fd >= DESCRIPTORS)
        fail("too many connections");
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
    SSL *tls = tls_of[fd] = SSL_new(context);
    SSL_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_set_fd(tls, fd);
    if (SSL_connect(tls) != 1)
        fail("the TLS handshake failed: %s", ERR_error_string(ERR_get_error(), NULL));
}

/* What a call of OpenSSL's has returned, as send() and recv() would say it. */
static inline ssize_t told(SSL *tls, int size) {
    switch (SSL_get_error(tls, size)) {
    case SSL_ERROR_NONE:
        return size;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return -1;
    default:
        errno = errno ? errno : EPROTO;
        return -1;
    }
}
#endif

static inline ssize_t send_some(int fd, const void *data, size_t size) {
#ifdef TLS
    ERR_clear_error();
    errno = 0;
    return told(tls_of[fd], SSL_write(tls_of[fd], data, (int)size));
#else
    return send(fd, data, size, MSG_NOSIGNAL);
#endif
}

/* With TLS at most one record, so that what the kernel says about the socket stays true. */
static inline ssize_t receive_some(int fd, void *buffer, size_t size) {
#ifdef TLS
    ERR_clear_error();
    errno = 0;
    return told(tls_of[fd], SSL_read(tls_of[fd], buffer, (int)size));
#else
    return recv(fd, buffer, size, 0);
#endif
}

static inline int connect_to(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct timeval patience = {.tv_sec = STALLED_MS / 1000};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail("cannot connect: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
#ifdef TLS
    begin_tls(fd);
#endif
    return fd;
}

static inline void send_all(int fd, const void *data, size_t size) {
    for (const char *rest = data; size > 0;) {
        ssize_t sent = send_some(fd, rest, size);
        if (sent < 0)
            fail("cannot send: %s", strerror(errno));
        rest += sent;
        size -= (size_t)sent;
    }
}

static inline void watch(int poller, int operation, int fd, uint32_t events, void *owner) {
    struct epoll_event event = {.events = events, .data.ptr = owner};
    if (epoll_ctl(poller, operation, fd, &event) != 0)
        fail("epoll: %s", strerror(errno));
}

static inline int wait_for_events(int poller, struct epoll_event *events) {
    int found = epoll_wait(poller, events, EVENTS, STALLED_MS);
    if (found < 0)
        fail("epoll: %s", strerror(errno));
    if (found == 0)
        fail("the server has been silent for %d ms", STALLED_MS);
    return found;
}

/* -- WebSocket (RFC 6455) ----------------------------------------------------------------- */

/* Header lines that the opening handshake has besides those it needs. */
static const char *more_headers = "";

static inline size_t upgrade_request(char *buffer, size_t size, int port, const char *path) {
    return (size_t)snprintf(buffer, size,
                            "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
                            "Connection: Upgrade\r\nSec-WebSocket-Key: " WEBSOCKET_KEY "\r\n"
                            "Sec-WebSocket-Version: 13\r\n%s\r\n",
                            path, port, more_headers);
}

static inline void check_upgrade(const char *head) {
    if (strncmp(head, "HTTP/1.1 101", 12) != 0)
        fail("the server refused to upgrade: %.60s", head);
    if (strstr(head, WEBSOCKET_ACCEPT) == NULL)
        fail("the server's Sec-WebSocket-Accept is wrong");
}

/* A connection on which the opening handshake is over; blocks until it is. The answer's head is
 * in `buffer`. */
static inline int open_session_with(int port, const char *path, char *buffer, size_t limit) {
    int fd = connect_to(port);
    send_all(fd, buffer, upgrade_request(buffer, limit, port, path));
    /* Byte by byte: nothing of what follows the head may be taken. */
    for (size_t size = 0; size < 4 || memcmp(buffer + size - 4, "\r\n\r\n", 4) != 0; size++)
        if (size >= limit - 1 || receive_some(fd, buffer + size, 1) != 1)
            fail("no answer to the opening handshake");
        else
            buffer[size + 1] = '\0';
    check_upgrade(buffer);
    return fd;
}

static inline int open_session(int port, const char *path) {
    char buffer[4096];
    return open_session_with(port, path, buffer, sizeof buffer);
}

struct frame {
    uint8_t *bytes;
    size_t size;
};

static inline uint8_t payload_byte(size_t index) { return (uint8_t)('a' + index % 26); }

/* A final, masked binary message whose payload is payload_byte(0), payload_byte(1), ... */
static inline struct frame make_message(size_t size) {
    static const uint8_t key[4] = {0x12, 0x34, 0x56, 0x78};
    uint8_t *bytes = allocate(size + 14, 1);
    size_t head = 0;
    int length_bytes = size < 126 ? 0 : size < 65536 ? 2 : 8;
    bytes[head++] = 0x80 | OPCODE_BINARY;
    bytes[head++] = 0x80 | (length_bytes == 0 ? (uint8_t)size : length_bytes == 2 ? 126 : 127);
    for (int byte = length_bytes - 1; byte >= 0; byte--)
        bytes[head++] = (uint8_t)(size >> (8 * byte));
    memcpy(bytes + head, key, sizeof key);
    head += sizeof key;
    for (size_t index = 0; index < size; index++)
        bytes[head + index] = payload_byte(index) ^ key[index & 3];
    return (struct frame){bytes, head + size};
}

#endif
