// Puts chunks of an image onto a disk. Each thread takes one after the other: fetches it into memory, goes on where it was
// cut, holds it against its digest, unpacks it and writes it past the page cache at its place. chunks.sh says which chunks, why
// this is no shell, and sees to everything else.
//
//   write-chunks DISK CHUNK-URL THREADS PAUSE STOP-FILE... <PLAN >>DONE
//
// PLAN has a line a chunk, RAW-OFFSET RAW-LENGTH LENGTH SHA256, and ` sample` behind those whose raw digest is wanted. DONE
// gets a line for each that is on the disk (not yet flushed): RAW-OFFSET RAW-LENGTH, and a sample's raw SHA-256. PAUSE is the
// first pause after a failure, in seconds. It stops when one of the STOP-FILEs exists. When the exit status is not 0, it is one
// of those in `enum` below, and the last line on standard error is the reason. Memory: 8.3 MiB a thread.

#define _GNU_SOURCE
#define ZSTD_STATIC_LINKING_ONLY // for ZSTD_d_forceIgnoreChecksum
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>

// Both as in images/chunk-map.ts: CHUNK_BYTES and MOST_CHUNK_BYTES.
#define CHUNK ((size_t)4 << 20)
#define MOST_CHUNK (CHUNK + ((size_t)64 << 10))

// In vain, one after the other: about a minute, which an appliance needs that is being restarted.
#define TRIES 9
// What came whole, and is another.
#define WRONG_TRIES 3

enum { WRITTEN = 0, FAILED = 1, ALTERED = 3, INVALID = 4, STOPPED = 5, UNREACHABLE = 6, DISK_FAILED = 7 };

struct chunk {
  uint64_t raw_offset;
  size_t raw_length, length;
  char sha256[65];
  bool sample;
};

struct worker {
  CURL *http;
  char said[CURL_ERROR_SIZE];
  ZSTD_DCtx *zstd;
  unsigned char *packed, *raw;
  size_t here, wanted; // of the chunk that is being fetched
};

static struct {
  const char *disk, *chunk_url;
  char *const *stop_files;
  useconds_t pause;
  int fd;
} job;

static void *work(void *unused);
static void stop_if_told(void);
// The process ends here and now, whatever other threads are at: the first reason is the last word.
static _Noreturn void end(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

int main(int argc, char **argv) {
  if (argc < 5) end(FAILED, "usage: write-chunks DISK CHUNK-URL THREADS PAUSE STOP-FILE... <PLAN >>DONE");
  job.disk = argv[1];
  job.chunk_url = argv[2];
  size_t threads = strtoul(argv[3], NULL, 10);
  job.pause = (useconds_t)(strtod(argv[4], NULL) * 1e6);
  job.stop_files = argv + 5;

  // Not every file system of a test has direct I/O; every disk has.
  job.fd = open(job.disk, O_WRONLY | O_DIRECT | O_CLOEXEC);
  if (job.fd < 0 && errno == EINVAL) job.fd = open(job.disk, O_WRONLY | O_CLOEXEC);
  if (job.fd < 0) end(DISK_FAILED, "writing to %s failed: %s", job.disk, strerror(errno));
  if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) end(FAILED, "libcurl does not start");

  pthread_t workers[threads > 0 ? threads : 1];
  size_t started = 0;
  while (started < threads && pthread_create(&workers[started], NULL, work, NULL) == 0) started++;
  if (started == 0) work(NULL);
  for (size_t i = 0; i < started; i++) pthread_join(workers[i], NULL);
  return WRITTEN;
}

// --- One worker -----------------------------------------------------------------------------------------------------------

static void begin(struct worker *self);
static void parse(const char *line, struct chunk *chunk);
static void fetch(struct worker *self, const struct chunk *chunk);
static void unpack(struct worker *self, const struct chunk *chunk);
static void put(const struct worker *self, const struct chunk *chunk);
static void tell(const struct worker *self, const struct chunk *chunk);

static void *work(void *unused) {
  struct worker self = {0};
  struct chunk chunk;
  char *line = NULL;
  size_t room = 0;
  begin(&self);
  // getline locks its stream: whoever is free has the next line.
  while (getline(&line, &room, stdin) > 0) {
    stop_if_told();
    parse(line, &chunk);
    fetch(&self, &chunk);
    unpack(&self, &chunk);
    put(&self, &chunk);
    tell(&self, &chunk);
  }
  // What it holds ends with the process, which ends when all are done.
  return unused;
}

// Huge pages where there are some: a direct write of 4 MiB then pins two, not a thousand.
static void *buffer(size_t length) {
  size_t huge = (size_t)2 << 20;
  void *memory = NULL;
  if (posix_memalign(&memory, huge, length) != 0) return NULL;
  madvise(memory, length, MADV_HUGEPAGE);
  return memory;
}

static size_t receive(char *bytes, size_t size, size_t count, void *worker);

static void begin(struct worker *self) {
  self->http = curl_easy_init();
  self->zstd = ZSTD_createDCtx();
  self->packed = malloc(MOST_CHUNK);
  self->raw = buffer(CHUNK);
  if (!self->http || !self->zstd || !self->packed || !self->raw) end(FAILED, "there is no memory for a chunk");
  // The XXH64 in a frame says nothing that its SHA-256 has not said.
  ZSTD_DCtx_setParameter(self->zstd, ZSTD_d_forceIgnoreChecksum, ZSTD_d_ignoreChecksum);
  curl_easy_setopt(self->http, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(self->http, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(self->http, CURLOPT_FAILONERROR, 1L);
  curl_easy_setopt(self->http, CURLOPT_CONNECTTIMEOUT, 5L);
  curl_easy_setopt(self->http, CURLOPT_LOW_SPEED_LIMIT, 1024L);
  curl_easy_setopt(self->http, CURLOPT_LOW_SPEED_TIME, 15L);
  curl_easy_setopt(self->http, CURLOPT_BUFFERSIZE, (long)CURL_MAX_READ_SIZE);
  curl_easy_setopt(self->http, CURLOPT_ERRORBUFFER, self->said);
  curl_easy_setopt(self->http, CURLOPT_WRITEFUNCTION, receive);
  curl_easy_setopt(self->http, CURLOPT_WRITEDATA, self);
}

// The shell has looked at every line; this keeps to the size of the buffers, whatever it saw.
static void parse(const char *line, struct chunk *chunk) {
  char mark[8] = "";
  int fields = sscanf(line, "%" SCNu64 " %zu %zu %64[0-9a-f] %7s", &chunk->raw_offset, &chunk->raw_length, &chunk->length,
                      chunk->sha256, mark);
  chunk->sample = fields == 5 && strcmp(mark, "sample") == 0;
  if (fields < 4 || chunk->raw_length > CHUNK || chunk->length > MOST_CHUNK || strlen(chunk->sha256) != 64)
    end(INVALID, "this is no chunk of a plan: %s", line);
}

// --- From the server to the memory, in the clear: until it is held against its digest, a chunk is anybody's -----------------

static CURLcode transfer(struct worker *self);
static bool can_go_on(const struct worker *self, CURLcode result);
static bool is_right(const struct worker *self, const struct chunk *chunk);
static void pause_after(int tries);

static void fetch(struct worker *self, const struct chunk *chunk) {
  char url[2048];
  snprintf(url, sizeof url, "%s/%s", job.chunk_url, chunk->sha256);
  curl_easy_setopt(self->http, CURLOPT_URL, url);
  self->here = 0;
  self->wanted = chunk->length;
  size_t most_here = 0;
  for (int tries = 1, wrong = 0;; tries++) {
    CURLcode result = transfer(self);
    if (result == CURLE_OK && is_right(self, chunk)) return;
    stop_if_told();
    if (result == CURLE_OK && ++wrong == WRONG_TRIES)
      end(ALTERED, "the image's chunk at byte %" PRIu64 " came %d times with another content than its digest says",
          chunk->raw_offset, wrong);
    if (!can_go_on(self, result)) self->here = 0;
    // As long as more is here than ever before, it is worth going on.
    if (self->here > most_here) {
      most_here = self->here;
      tries = 1;
    }
    if (tries == TRIES) end(UNREACHABLE, "the image did not arrive: %s", self->said);
    fprintf(stderr, "chunk at byte %" PRIu64 ": try %d of %d: %s\n", chunk->raw_offset, tries, TRIES, self->said);
    pause_after(tries);
  }
}

static CURLcode transfer(struct worker *self) {
  // libcurl takes no answer for the rest that is not the rest.
  curl_easy_setopt(self->http, CURLOPT_RESUME_FROM_LARGE, (curl_off_t)self->here);
  curl_easy_setopt(self->http, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)self->wanted);
  CURLcode result = curl_easy_perform(self->http);
  long status = 0;
  curl_easy_getinfo(self->http, CURLINFO_RESPONSE_CODE, &status);
  // To libcurl this says that all is here already.
  if (result == CURLE_OK && status == 416) result = CURLE_RANGE_ERROR;
  if (self->said[0] == '\0') snprintf(self->said, sizeof self->said, "%s, status %ld", curl_easy_strerror(result), status);
  return result;
}

static size_t receive(char *bytes, size_t size, size_t count, void *worker) {
  struct worker *self = worker;
  size_t length = size * count;
  if (length > self->wanted - self->here) return 0; // longer than it can be: libcurl ends the transfer
  memcpy(self->packed + self->here, bytes, length);
  self->here += length;
  return length;
}

// What can't become right by going on: a chunk that came whole and is another, one that is too long, one whose rest the server
// does not have or give.
static bool can_go_on(const struct worker *self, CURLcode result) {
  switch (result) {
    case CURLE_OK:
    case CURLE_WRITE_ERROR:
    case CURLE_RANGE_ERROR:
    case CURLE_FILESIZE_EXCEEDED:
      return false;
    default:
      return self->here < self->wanted;
  }
}

static void hexadecimal(const unsigned char *bytes, size_t length, char text[65]) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  EVP_Digest(bytes, length, digest, NULL, EVP_sha256(), NULL);
  for (size_t i = 0; i < 32; i++) snprintf(text + 2 * i, 3, "%02x", digest[i]);
}

static bool is_right(const struct worker *self, const struct chunk *chunk) {
  char got[65] = "";
  if (self->here == chunk->length) hexadecimal(self->packed, self->here, got);
  return strcmp(got, chunk->sha256) == 0;
}

// A backoff that ends at eight pauses.
static void pause_after(int tries) {
  stop_if_told();
  for (int pauses = tries > 3 ? 8 : 1 << (tries - 1); pauses > 0; pauses--) {
    usleep(job.pause);
    stop_if_told();
  }
}

// --- From the memory to the disk ------------------------------------------------------------------------------------------

// The frame declares its length, and zstd gives no more than that: no chunk ends up at another's place.
static void unpack(struct worker *self, const struct chunk *chunk) {
  if (ZSTD_getFrameContentSize(self->packed, chunk->length) != chunk->raw_length)
    end(INVALID, "the image's chunk at byte %" PRIu64 " has another length than its map says", chunk->raw_offset);
  size_t got = ZSTD_decompressDCtx(self->zstd, self->raw, chunk->raw_length, self->packed, chunk->length);
  if (ZSTD_isError(got) || got != chunk->raw_length)
    end(INVALID, "the image's chunk at byte %" PRIu64 " can't be unpacked: %s", chunk->raw_offset, ZSTD_getErrorName(got));
}

static void put(const struct worker *self, const struct chunk *chunk) {
  for (size_t done = 0; done < chunk->raw_length;) {
    ssize_t count = pwrite(job.fd, self->raw + done, chunk->raw_length - done, (off_t)(chunk->raw_offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) end(DISK_FAILED, "writing to %s failed: %s", job.disk, count < 0 ? strerror(errno) : "it is full");
    done += (size_t)count;
  }
}

// A line is one write to a file that is appended to: whole, or not there.
static void tell(const struct worker *self, const struct chunk *chunk) {
  char digest[65] = "";
  if (chunk->sample) hexadecimal(self->raw, chunk->raw_length, digest);
  const char *space = chunk->sample ? " " : "";
  if (dprintf(STDOUT_FILENO, "%" PRIu64 " %zu%s%s\n", chunk->raw_offset, chunk->raw_length, space, digest) < 0)
    end(FAILED, "what is done can't be told: %s", strerror(errno));
}

// --- The end --------------------------------------------------------------------------------------------------------------

static void stop_if_told(void) {
  for (char *const *file = job.stop_files; *file != NULL; file++) {
    if (access(*file, F_OK) == 0) end(STOPPED, "%s says to stop", *file);
  }
}

static _Noreturn void end(int status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  flockfile(stderr); // for good
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  _exit(status);
}
