# bkp in a container: as nobody in particular, with a root that may be read-only.
#
#   docker build --target slim -t bkp .                  files, SQLite, MongoDB, Redis; other databases in their own containers
#   docker build --target clients -t bkp:clients .       and MariaDB and PostgreSQL over the network
#   docker build --target servers -t bkp:servers .       and their servers, and Redis: rehearsals where there is no Docker
#
# MySQL over the network wants a client of its own flavour, which no released Debian has:
#   --build-arg BASE=debian:sid-slim --build-arg CLIENTS="mysql-client postgresql-client"
# A program that was built already (for this architecture and Debian) is taken instead of compiling:
#   --build-arg PROGRAM=bkp --build-arg RUST=debian:bookworm-slim, with the file `bkp` in the context.
# glibc and not static: the clients need a Debian around them anyhow.

ARG BASE=debian:bookworm-slim
ARG RUST=rust:1.95-slim-bookworm

FROM ${RUST} AS program
ARG PROGRAM=
LABEL org.bkp.stage=program
WORKDIR /build
COPY . .
RUN if [ -n "$PROGRAM" ]; then install -m 755 "$PROGRAM" /bkp; else \
      { command -v cc cmake make >/dev/null || { apt-get -qq update && apt-get -qq install -y --no-install-recommends gcc libc6-dev make cmake; }; } \
   && cargo build --release --locked && install -m 755 target/release/bkp /bkp && rm -rf target; fi

# Roots of certificate authorities, and tini: process 1 that hands signals on and reaps what others leave. Time zones are in bkp.
FROM ${BASE} AS runtime
RUN apt-get -qq update \
 && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends ca-certificates tini >/dev/null \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
 && groupadd --gid 65532 bkp && useradd --uid 65532 --gid 65532 --home-dir /var/lib/bkp --shell /usr/sbin/nologin --no-create-home bkp \
 && install -d -m 755 /etc/bkp /etc/bkp/policies.d && echo '# Mount yours here.' > /etc/bkp/bkp.yaml \
 && install -d -m 1777 /var/lib/bkp /var/cache/bkp
ENV BKP_CONFIG=/etc/bkp/bkp.yaml BKP_STATE_DIR=/var/lib/bkp BKP_CACHE_DIR=/var/cache/bkp XDG_RUNTIME_DIR=/tmp TMPDIR=/var/cache/bkp
# What must outlive the container (the keys this host writes with, the journal), and what makes the next run fast.
VOLUME ["/var/lib/bkp", "/var/cache/bkp"]
WORKDIR /tmp
USER 65532:65532
STOPSIGNAL SIGTERM
# Whether the daemon's scheduler turns: nothing else is mended by a restart. For a container that does not run it: --no-healthcheck.
HEALTHCHECK --interval=30s --timeout=15s --start-period=1m --retries=3 CMD ["/usr/bin/bkp", "healthcheck", "--live"]
ENTRYPOINT ["/usr/bin/tini", "--", "/usr/bin/bkp"]
CMD ["daemon"]
LABEL org.opencontainers.image.title="bkp" \
      org.opencontainers.image.description="Backs up the databases and volumes of container stacks, and proves that the backups restore" \
      org.opencontainers.image.licenses="Apache-2.0"

FROM runtime AS slim
COPY --from=program /bkp /usr/bin/bkp

FROM runtime AS with-clients
ARG CLIENTS="mariadb-client postgresql-client"
USER root
RUN apt-get -qq update \
 && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $CLIENTS >/dev/null \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log
USER 65532:65532

FROM with-clients AS clients
COPY --from=program /bkp /usr/bin/bkp

# Servers are only started by rehearsals, with data of their own, and never by the packages (101 is "not allowed" to Debian).
FROM with-clients AS with-servers
ARG SERVERS="mariadb-server postgresql redis-server"
USER root
RUN printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d && apt-get -qq update \
 && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $SERVERS >/dev/null \
 && rm -rf /var/lib/mysql/* /var/lib/postgresql/1* /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log
USER 65532:65532

FROM with-servers AS servers
COPY --from=program /bkp /usr/bin/bkp
