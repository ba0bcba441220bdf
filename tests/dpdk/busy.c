/* A DPDK program without packets for the tests of the telemetry client: every lcore polls, and says that a share of its cycles
 * had work. The share is the number in the file named after "--", read ten times a second.
 *
 *     cc -O2 busy.c -o busy $(pkg-config --cflags --libs libdpdk)
 *     ./busy -l 0,1 --no-huge -m 64 --no-pci --file-prefix rte -- SHARE_FILE
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_lcore.h>

static atomic_bool ended;
static atomic_uint share;

struct counters {
	atomic_ullong total, busy;
} __rte_cache_aligned;

static struct counters counters[RTE_MAX_LCORE];

static int report(unsigned int lcore, struct rte_lcore_usage *usage)
{
	usage->busy_cycles = atomic_load(&counters[lcore].busy);
	usage->total_cycles = atomic_load(&counters[lcore].total);
	return 0;
}

static int poll_lcore(void *unused)
{
	struct counters *mine = &counters[rte_lcore_id()];
	uint64_t last = rte_rdtsc();

	(void)unused;
	while (!atomic_load(&ended)) {
		rte_delay_us_block(20);
		uint64_t now = rte_rdtsc(), passed = now - last;

		/* total first: a reader in between never sees more busy cycles than cycles */
		atomic_fetch_add(&mine->total, passed);
		atomic_fetch_add(&mine->busy, passed * atomic_load(&share) / 100);
		last = now;
	}
	return 0;
}

static void end(int number)
{
	(void)number;
	atomic_store(&ended, 1);
}

static void read_share(const char *path)
{
	unsigned int value;
	FILE *file = fopen(path, "r");

	if (!file)
		return;
	if (fscanf(file, "%u", &value) == 1 && value <= 100)
		atomic_store(&share, value);
	fclose(file);
}

int main(int argc, char **argv)
{
	int parsed = rte_eal_init(argc, argv);

	if (parsed < 0 || parsed + 1 >= argc)
		return 1;
	signal(SIGTERM, end);
	signal(SIGINT, end);
	rte_lcore_register_usage_cb(report);
	/* the main lcore reads the file; the others poll */
	rte_eal_mp_remote_launch(poll_lcore, NULL, SKIP_MAIN);
	while (!atomic_load(&ended)) {
		read_share(argv[parsed + 1]);
		rte_delay_us_sleep(100000);
	}
	rte_eal_mp_wait_lcore();
	return rte_eal_cleanup();
}
