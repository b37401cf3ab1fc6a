/* Moves network devices between network namespaces with what the kernel would forget: addresses, and that they are up. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define ADDRESSES_MAX 64
#define BUFFER_SIZE 16384

struct move {
	int from, to, result;
	const char *name, *new_name;
};

struct address {
	struct ifaddrmsg header;
	unsigned char local[16], peer[16];
	int size;
};

struct request {
	struct nlmsghdr header;
	union {
		struct ifinfomsg link;
		struct ifaddrmsg address;
	};
	char attributes[256];
};

static void add(struct request *request, int type, const void *data, int size)
{
	struct rtattr *attribute = (void *)((char *)request + NLMSG_ALIGN(request->header.nlmsg_len));

	attribute->rta_type = (unsigned short)type;
	attribute->rta_len = (unsigned short)RTA_LENGTH(size);
	memcpy(RTA_DATA(attribute), data, (size_t)size);
	request->header.nlmsg_len = NLMSG_ALIGN(request->header.nlmsg_len) + RTA_ALIGN(attribute->rta_len);
}

/* Sends a request and waits for its acknowledgement. */
static int talk(int socket, struct request *request)
{
	char buffer[BUFFER_SIZE] __attribute__((aligned(8)));
	struct nlmsghdr *answer = (void *)buffer;

	request->header.nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
	if (send(socket, request, request->header.nlmsg_len, 0) < 0 || recv(socket, buffer, sizeof(buffer), 0) < 0)
		return -errno;
	return answer->nlmsg_type == NLMSG_ERROR ? ((struct nlmsgerr *)NLMSG_DATA(answer))->error : -EPROTO;
}

static void keep_address(struct nlmsghdr *message, struct address *address)
{
	struct ifaddrmsg *header = NLMSG_DATA(message);
	int left = (int)IFA_PAYLOAD(message);

	address->header = *header;
	address->size = 0;
	for (struct rtattr *at = IFA_RTA(header); RTA_OK(at, left); at = RTA_NEXT(at, left)) {
		int size = (int)RTA_PAYLOAD(at);

		if (size > 16 || (at->rta_type != IFA_LOCAL && at->rta_type != IFA_ADDRESS))
			continue;
		if (at->rta_type == IFA_LOCAL || address->size == 0)
			memcpy(address->local, RTA_DATA(at), (size_t)size);
		if (at->rta_type == IFA_ADDRESS)
			memcpy(address->peer, RTA_DATA(at), (size_t)size);
		address->size = size;
	}
}

/* The addresses that are not the kernel's own (link-local) and do not expire. */
static int list_addresses(int socket, int index, struct address *addresses)
{
	struct request request = {.header = {NLMSG_LENGTH(sizeof(struct ifaddrmsg)), RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, 1, 0}};
	char buffer[BUFFER_SIZE] __attribute__((aligned(8)));
	int count = 0;

	if (send(socket, &request, request.header.nlmsg_len, 0) < 0)
		return -errno;
	for (;;) {
		ssize_t size = recv(socket, buffer, sizeof(buffer), 0);

		if (size < 0)
			return -errno;
		for (struct nlmsghdr *at = (void *)buffer; NLMSG_OK(at, size); at = NLMSG_NEXT(at, size)) {
			struct ifaddrmsg *header = NLMSG_DATA(at);

			if (at->nlmsg_type == NLMSG_DONE)
				return count;
			if (at->nlmsg_type == NLMSG_ERROR)
				return ((struct nlmsgerr *)NLMSG_DATA(at))->error;
			if ((int)header->ifa_index == index && header->ifa_scope == RT_SCOPE_UNIVERSE &&
			    header->ifa_flags & IFA_F_PERMANENT && count < ADDRESSES_MAX)
				keep_address(at, &addresses[count++]);
		}
	}
}

static int add_address(int socket, int index, const struct address *address)
{
	struct request request = {.header = {NLMSG_LENGTH(sizeof(struct ifaddrmsg)), RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, 1, 0}};

	request.address = address->header;
	request.address.ifa_index = (unsigned)index;
	add(&request, IFA_LOCAL, address->local, address->size);
	add(&request, IFA_ADDRESS, address->peer, address->size);
	return talk(socket, &request);
}

/* The index of a device; with change, brings it up or down. flags receives what it was before. */
static int look_up(int socket, const char *name, short *flags, int change, int up)
{
	struct ifreq request = {0};
	int index;

	strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	if (ioctl(socket, SIOCGIFINDEX, &request) < 0)
		return -errno;
	index = request.ifr_ifindex;
	if (ioctl(socket, SIOCGIFFLAGS, &request) < 0)
		return -errno;
	*flags = request.ifr_flags;
	if (change) {
		request.ifr_flags = (short)(up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
		if (ioctl(socket, SIOCSIFFLAGS, &request) < 0)
			return -errno;
	}
	return index;
}

static int send_away(const struct move *move, int netlink, int index)
{
	struct request request = {.header = {NLMSG_LENGTH(sizeof(struct ifinfomsg)), RTM_NEWLINK, 0, 1, 0}};

	request.link.ifi_index = index;
	add(&request, IFLA_NET_NS_FD, &move->to, sizeof(move->to));
	add(&request, IFLA_IFNAME, move->new_name, (int)strlen(move->new_name) + 1);
	return talk(netlink, &request);
}

static int move_device(const struct move *move, const int *sockets)
{
	static __thread struct address addresses[ADDRESSES_MAX];
	short flags = 0, ignored;
	int count, result, index = look_up(sockets[0], move->name, &flags, 0, 0);

	if (index < 0)
		return index;
	count = list_addresses(sockets[1], index, addresses);
	if (count < 0)
		return count;
	result = look_up(sockets[0], move->name, &flags, 1, 0);
	if (result >= 0)
		result = send_away(move, sockets[1], index);
	if (result < 0) {
		look_up(sockets[0], move->name, &ignored, 1, flags & IFF_UP);
		return result;
	}
	index = look_up(sockets[2], move->new_name, &ignored, flags & IFF_UP, 1);
	result = index < 0 ? index : 0;
	for (int i = 0; !result && i < count; i++)
		result = add_address(sockets[3], index, &addresses[i]);
	return result;
}

/* Sockets stay in the namespace in which they were made; the thread's changes end with it. */
static void *run(void *argument)
{
	struct move *move = argument;
	int sockets[4] = {-1, -1, -1, -1};

	for (int i = 0; i < 4 && !move->result; i++) {
		int namespace = i == 0 ? move->from : i == 2 ? move->to : -1;

		if (namespace >= 0 && setns(namespace, CLONE_NEWNET) < 0)
			move->result = -errno;
		else if (i % 2 == 0)
			sockets[i] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		else
			sockets[i] = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
		if (!move->result && sockets[i] < 0)
			move->result = -errno;
	}
	if (!move->result)
		move->result = move_device(move, sockets);
	for (int i = 0; i < 4; i++)
		if (sockets[i] >= 0)
			close(sockets[i]);
	return NULL;
}

/* From the namespace of one descriptor to that of another, where it is named new_name. */
int gantry_move_device(int from, int to, const char *name, const char *new_name)
{
	struct move move = {.from = from, .to = to, .name = name, .new_name = new_name};
	pthread_t thread;
	int error = pthread_create(&thread, NULL, run, &move);

	if (error)
		return -error;
	pthread_join(thread, NULL);
	return move.result;
}
