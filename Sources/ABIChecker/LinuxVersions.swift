// The only place that knows versions of Linux: since when a rule is owed, which releases break it, and what each offers.

/// A capability, or a device attribute of a vCPU, that is there since a release.
struct Offer: Sendable {
  var name: String
  var since: KernelVersion
  /// What its value has at least.
  var bits: UInt32 = 1
  /// Whether it is of kvm.ko alone, so that every module that runs guests has it.
  var isOfAll = true

  static let table: [Offer] = [
    Offer(name: "KVM_CAP_GET_TSC_KHZ", since: "3.0"),
    Offer(name: "KVM_CAP_KVMCLOCK_CTRL", since: "3.5"),
    Offer(name: "KVM_CAP_ADJUST_CLOCK", since: "4.9", bits: 2),
    Offer(name: "KVM_CAP_ADJUST_CLOCK", since: "5.16", bits: 0xe),
    Offer(name: "KVM_CAP_ENFORCE_PV_FEATURE_CPUID", since: "5.10"),
    Offer(name: "KVM_CAP_X86_USER_SPACE_MSR", since: "5.10", isOfAll: false),
    Offer(name: "KVM_CAP_X86_MSR_FILTER", since: "5.10", isOfAll: false),
    Offer(name: "KVM_CAP_VCPU_ATTRIBUTES", since: "5.16"),
    Offer(name: "KVM_VCPU_TSC_OFFSET", since: "5.16", isOfAll: false),
  ]
}

extension Owed {
  public static let table: [Owed] = [
    owed(
      since: "3.19", ["TSC-HOSTWRITE-CONTINUES"],
      before: "the record keeps the timestamp of the old TSC (7f187922ddf6)"),
    owed(
      since: "5.5", ["RATE-RAW", "RATE-NOT-NTP"],
      before: "the clock is based on CLOCK_MONOTONIC, which NTP slews (53fafdbb8b21)"),
    owed(
      since: "5.10", ["TSCADJ-HOSTWRITE-NOMOVE"],
      before: "a write by the host moves the guest's TSC (0c899c25d754)"),
    owed(
      since: "5.14", ["SUSPEND-STOPPED-FLAG"],
      before: "KVM is not told of a suspend and tells no guest (7d62874f69d7)"),
    owed(
      since: "5.15", ["TSCADJ-GUESTWRITE-CONTINUES"],
      before: "the record keeps the timestamp of the old TSC (d9130a2dfdd4)"),
    owed(
      since: "5.16", ["GETCLOCK-IS-GUEST-VIEW"],
      before: "KVM_GET_CLOCK returns no host_tsc (c68dc1b577ea)"),
    owed(
      since: "5.16", ["GETCLOCK-FIELDS"],
      before: "KVM_GET_CLOCK returns no host_tsc and no realtime (c68dc1b577ea)"),
    owed(
      since: "5.16",
      [
        "MIG-REALTIME-CONTINUES", "SETCLOCK-REALTIME-FWD", "SETCLOCK-REALTIME-NOBACK",
      ],
      before: "KVM_SET_CLOCK takes no realtime (c68dc1b577ea)"),
    owed(
      since: "5.16",
      [
        "MIG-TSC-RELATION", "TSC-MATCHED-AT-CREATE", "STABLE-LOST-OFFSET-MISMATCH",
        "STABLE-REGAINED-OFFSET-MATCH", "STABLE-LAG", "TSCOFFSET-CONTINUES",
        "TSC-HOSTWRITE-CONTINUES-TOGETHER",
      ],
      before: "KVM_VCPU_TSC_OFFSET does not exist (828ca89628bf)"),
    owed(
      since: "5.16", ["SETCLOCK-OTHERFLAGS-IGNORED", "GETSET-ROUNDTRIP"],
      before: "KVM_SET_CLOCK takes no flags (c68dc1b577ea)"),
    owed(
      since: "5.16", ["SETCLOCK-REACHES-RUNNING"],
      before: "KVM_SET_CLOCK asks running vCPUs to leave and does not wait for them"),
    owed(
      since: "5.16", ["RUNNING-ONE-PAIR"],
      before: "KVM_SET_CLOCK lets vCPUs run between the new pair and the new value"),
    owed(
      since: "5.10", ["ENFORCE-PV-GP"],
      before:
        "RDMSR is not gated, and the order of the requests matters (1930e5ddcead, 01b4f510b9f4)"
    ),
    owed(
      since: "7.2", ["ENFORCE-PV-HOST"],
      before:
        "KVM_GET_MSRS fails for an MSR that CPUID does not offer, but for late releases of 6.12 and 6.18"
    ),
    owed(since: "5.10", ["MSR-FILTER-GP"], before: "KVM_X86_SET_MSR_FILTER does not exist"),
    owed(
      since: "6.7", ["HOTPLUG-NO-RESNAP"],
      before: "every new vCPU has the pair taken anew, even if its TSC is in step (c52ffadc65e2)"),
    owed(
      since: "6.7", ["WALL-VALUE-EXACT", "WALL-REWRITE-STABLE"],
      before: "the epoch is made of two clocks read one after the other (5d6d6a7d7e66)"),
    owed(
      since: "6.9", ["XEN-HOST-ADDRESS"],
      before: "Xen's structures are registered by a guest's address alone"),
    owed(
      since: "6.15", ["XEN-NO-GUEST-STOPPED"],
      before: "the records of one vCPU are made of one copy, and the flag goes from one to the next"
    ),
    owed(
      since: "6.17", ["TSCKHZ-VM-SCOPE"],
      before: "the VM's TSC frequency can be set after a vCPU was made (dcbe5a466c12)"),
  ].flatMap { $0 }

  /// Rules that are owed since one release and for one reason.
  private static func owed(
    since: KernelVersion, _ rules: [String], before: String
  ) -> [Owed] {
    rules.map { Owed(rule: $0, since: since, before: before) }
  }
}

extension KnownDeviation {
  public static let table: [KnownDeviation] = [
    KnownDeviation(
      rule: "RATE-RAW", until: "6.3", always: false,
      bound: "1000 ppm of the time that passed",
      cause:
        "kvm.ko keeps the TSC frequency it found when it was loaded; loaded before the kernel's "
        + "TSC refinement, kvmclock runs at the unrefined rate",
      source: "Linux 3ebcbd2244f5 (6.3)"),
    KnownDeviation(
      rule: "SYSTIME-CROSSPAGE-SERVED", since: "5.19",
      cause: "the record is reached through a gfn_to_pfn_cache, which maps one page",
      source: "Linux 916d3608df82 (5.19)"),
    KnownDeviation(
      rule: "SYSTIME-CROSSPAGE-NO-STALE", since: "5.19",
      cause:
        "the cache refuses an address that crosses a page before it lets go of the old one, and the MSR's "
        + "value changes all the same",
      source: "Linux 916d3608df82 (5.19)"),
    KnownDeviation(
      rule: "SYSTIME-CROSSPAGE-NO-STRAY", since: "5.19",
      until: "6.9",
      cause:
        "a cache that was off is switched on before the address is refused, and the record goes to the address "
        + "that the cache held before, or to 0",
      source: "Linux 916d3608df82 (5.19); ended by Linux 5c9ca4ed8908 (6.9)"),
    KnownDeviation(
      rule: "GUESTSTOPPED-SURVIVES-UNREACHABLE", since: "6.15",
      cause:
        "kvm_guest_time_update() forgets the request before it is known that the record can be reached",
      source: "Linux 6c4927a4b7b8 (6.15)"),
    KnownDeviation(
      rule: "GUESTSTOPPED-SURVIVES-UNREACHABLE", until: "5.19",
      bound: "a record in memory that the host may not write",
      cause:
        "kvm_setup_pvclock_page() forgets the request once it could read the record, before it is known that the record can "
        + "be written",
      source: "Linux 916d3608df82 (5.19)"),
    KnownDeviation(
      rule: "RESNAP-BOUNDED", until: "6.3", always: false,
      bound: "1000 ppm of the time between the two pairs",
      cause:
        "kvm.ko keeps the TSC frequency it found when it was loaded; loaded before the kernel's "
        + "TSC refinement, kvmclock runs at the unrefined rate",
      source: "Linux 3ebcbd2244f5 (6.3)"),
    KnownDeviation(
      rule: "RESNAP-NO-JUMP", always: false,
      bound: "a step that the rounding of the two multipliers makes",
      cause:
        "a new pair is taken from CLOCK_MONOTONIC_RAW, whose multiplier is rounded otherwise than the "
        + "record's: what the two have come apart by since the pair before shows at once",
      source: "arch/x86/kvm/x86.c, pvclock_update_vm_gtod_copy()"),
    KnownDeviation(
      rule: "SETCLOCK-EXACT", until: "5.12",
      bound: "the time from the start of the call to the reading",
      cause:
        "KVM_SET_CLOCK takes the time of the call instead of the snapshot's: the record's system_time is below the "
        + "value by the time between, and wraps below 0",
      source: "Linux 77fcbe823f00 (5.12)"),
    KnownDeviation(
      rule: "TSC-GUESTWRITE-CONTINUES", since: "5.10",
      bound: "an error of the size of the move",
      cause:
        "kvm_set_msr_common() moves the TSC and asks for no new record, as it does for IA32_TSC_ADJUST: the "
        + "clock is off by the whole move until some later update, and jumps back then",
      source: "Linux 0c899c25d754 (5.10)"),
    KnownDeviation(
      rule: "TSC-FIRST-WRITE-KEPT", until: "6.7",
      bound: "a TSC that goes on as if nothing had been written, less than 1 s from the value",
      cause:
        "kvm_synchronize_tsc() takes the first value from user space for an attempt to synchronise with the TSC "
        + "that it gave the vCPU at creation, and drops it",
      source: "Linux bf328e22e472 (6.7)"),
    KnownDeviation(
      rule: "TSC-HOSTWRITE-CONTINUES-NONMASTER", always: false,
      bound: "an error of the size of the move",
      cause:
        "kvm_track_tsc_matching() asks for an update only where the master clock is in use or comes into use; "
        + "otherwise the record keeps the timestamp of the old TSC until the vCPU's thread moves to another CPU",
      source: "arch/x86/kvm/x86.c, __kvm_synchronize_tsc() and kvm_track_tsc_matching()"),
    KnownDeviation(
      rule: "TSC-HOSTWRITE-CONTINUES-TOGETHER", since: "6.7", always: false,
      bound: "an error of the size of the move",
      cause:
        "kvm_track_tsc_matching() asks for an update on the first vCPU alone; one that enters before it has the "
        + "new TSC and the old record",
      source: "Linux c52ffadc65e2 (6.7)"),
    KnownDeviation(
      rule: "SCALED-CHANGE-KEEPS-TIME", always: false,
      bound: "a record that is the one from before the change",
      cause:
        "set_tsc_khz() changes the rate of the guest's TSC at once and asks for no new record: the clock is off by all that the "
        + "new rate makes of the TSC, and jumps back at some later update",
      source: "arch/x86/kvm/x86.c, set_tsc_khz()"),
    KnownDeviation(
      rule: "SCALED-GETCLOCK-IS-GUEST-VIEW", always: false,
      bound: "1 kHz of the guest's TSC frequency, for the time since the pair",
      cause:
        "kvm_guest_time_update() makes the record for the guest's frequency rounded down to whole kHz, and KVM_GET_CLOCK converts "
        + "the host's TSC: guests' clocks are ahead of it, and come further ahead with the age of the pair",
      source: "arch/x86/kvm/x86.c, kvm_guest_time_update() and __get_kvmclock()"),
    KnownDeviation(
      rule: "TSCKHZ-FAIL-NOCHANGE", always: false,
      cause:
        "without TSC scaling kvm_set_tsc_khz() assigns virtual_tsc_khz before it finds that it can't do it",
      source: "arch/x86/kvm/x86.c, kvm_set_tsc_khz()"),
    KnownDeviation(
      rule: "TSCKHZ-UPSCALE", always: false,
      bound: "a guest's TSC that stays at the host's rate",
      cause:
        "in master-clock mode compute_guest_tsc() is given the time of the snapshot, which stands still, so the "
        + "guest's TSC is not moved on",
      source: "arch/x86/kvm/x86.c, kvm_guest_time_update()"),
  ]
}

extension Rule {
  /// The kernels on which the rules that rest on the implementation alone were seen to hold.
  static let implementationChecked = "5.10 to 7.3"
}
