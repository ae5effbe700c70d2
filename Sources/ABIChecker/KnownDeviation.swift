/// A rule that shipped kernels are known to break: where, why, and who says so.
public struct KnownDeviation: Hashable, Sendable, Codable {
  public var rule: String
  /// First kernel that breaks it, as major and minor; nil if always.
  public var since: KernelVersion?
  /// First kernel that no longer does; nil if not mended yet.
  public var until: KernelVersion?
  /// Whether it shows in every run on these kernels, or only under some condition that `cause` names.
  public var always: Bool
  public var cause: String
  public var source: String

  /// The entry for a rule on a kernel (`uname -r`), if there is one.
  public static func of(rule: String, kernel: String?) -> KnownDeviation? {
    guard let version = kernel.flatMap(KernelVersion.init) else { return nil }
    return table.first {
      $0.rule == rule && ($0.since.map { $0 <= version } ?? true)
        && ($0.until.map { version < $0 } ?? true)
    }
  }

  /// The entry that an outcome calls for: one that explains why the rule is broken, or one that should have shown.
  static func of(rule: String, kernel: String?, _ outcome: Outcome) -> KnownDeviation? {
    guard let entry = of(rule: rule, kernel: kernel) else { return nil }
    if outcome.isBroken { return entry }
    if case .holds = outcome, entry.always { return entry }
    return nil
  }

  public static let table: [KnownDeviation] = [
    KnownDeviation(
      rule: "RATE-RAW", until: KernelVersion(6, 3), always: false,
      cause:
        "kvm.ko keeps the TSC frequency it found when it was loaded; loaded before the kernel's "
        + "TSC refinement, kvmclock runs at the unrefined rate",
      source: "Linux 3ebcbd2244f5 (6.3)"),
    KnownDeviation(
      rule: "SYSTIME-CROSSPAGE-SERVED", since: KernelVersion(5, 19),
      cause: "the record is reached through a gfn_to_pfn_cache, which maps one page",
      source: "Linux 916d3608df82 (5.19)"),
    KnownDeviation(
      rule: "SYSTIME-CROSSPAGE-NO-STALE", since: KernelVersion(5, 19),
      cause:
        "the cache refuses an address that crosses a page before it lets go of the old one, and the MSR's "
        + "value changes all the same",
      source: "Linux 916d3608df82 (5.19)"),
    KnownDeviation(
      rule: "SYSTIME-CROSSPAGE-NO-STRAY", since: KernelVersion(5, 19),
      until: KernelVersion(6, 9),
      cause:
        "a cache that was off is switched on before the address is refused, and the record goes to the address "
        + "that the cache held before, or to 0",
      source:
        "Linux 916d3608df82 (5.19); ended by \"KVM: Check validity of offset+length of gfn_to_pfn_cache prior "
        + "to activation\" (6.9)"),
    KnownDeviation(
      rule: "RESNAP-BOUNDED", until: KernelVersion(6, 3), always: false,
      cause:
        "kvm.ko keeps the TSC frequency it found when it was loaded; loaded before the kernel's "
        + "TSC refinement, kvmclock runs at the unrefined rate",
      source: "Linux 3ebcbd2244f5 (6.3)"),
    KnownDeviation(
      rule: "RESNAP-NO-JUMP", always: false,
      cause:
        "a new pair is taken from CLOCK_MONOTONIC_RAW, whose multiplier is rounded otherwise than the "
        + "record's: what the two have come apart by since the pair before shows at once",
      source: "arch/x86/kvm/x86.c, pvclock_update_vm_gtod_copy()"),
    KnownDeviation(
      rule: "HOTPLUG-NO-RESNAP", until: KernelVersion(6, 7),
      cause: "every new vCPU has the master clock's pair taken anew, also if its TSC is in step",
      source: "Linux c52ffadc65e2 (6.7), which mends 7f187922ddf6"),
    KnownDeviation(
      rule: "WALL-REWRITE-STABLE", until: KernelVersion(6, 7), always: false,
      cause:
        "the epoch was made of two clocks read one after the other; it moves where the time between "
        + "the readings does",
      source: "Linux 5d6d6a7d7e66 (6.7)"),
    KnownDeviation(
      rule: "WALL-VALUE-EXACT", until: KernelVersion(6, 7), always: false,
      cause: "the epoch was made of two clocks read one after the other",
      source: "Linux 5d6d6a7d7e66 (6.7)"),
    KnownDeviation(
      rule: "SETCLOCK-EXACT", until: KernelVersion(5, 12),
      cause:
        "KVM_SET_CLOCK takes the time of the call instead of the snapshot's: the record's system_time is below the "
        + "value by the time between, and wraps below 0",
      source: "Linux 77fcbe823f00 (5.12)"),
    KnownDeviation(
      rule: "TSC-GUESTWRITE-CONTINUES", since: KernelVersion(5, 10),
      cause:
        "kvm_set_msr_common() moves the TSC and asks for no new record, as it does for IA32_TSC_ADJUST: the "
        + "clock is off by the whole move until some later update, and jumps back then",
      source: "Linux 0c899c25d754 (5.10)"),
    KnownDeviation(
      rule: "TSC-HOSTWRITE-CONTINUES-NONMASTER", always: false,
      cause:
        "kvm_track_tsc_matching() asks for an update only where the master clock is in use or comes into use; "
        + "otherwise the record keeps the timestamp of the old TSC until the vCPU's thread moves to another CPU",
      source: "arch/x86/kvm/x86.c, __kvm_synchronize_tsc() and kvm_track_tsc_matching()"),
    KnownDeviation(
      rule: "TSC-HOSTWRITE-CONTINUES-TOGETHER", since: KernelVersion(6, 7),
      cause:
        "kvm_track_tsc_matching() asks for an update on the first vCPU alone; one that enters before it has the "
        + "new TSC and the old record",
      source: "Linux c52ffadc65e2 (6.7)"),
    KnownDeviation(
      rule: "TSCKHZ-FAIL-NOCHANGE", always: false,
      cause:
        "without TSC scaling kvm_set_tsc_khz() assigns virtual_tsc_khz before it finds that it can't do it",
      source: "arch/x86/kvm/x86.c, kvm_set_tsc_khz()"),
    KnownDeviation(
      rule: "TSCKHZ-UPSCALE", always: false,
      cause:
        "in master-clock mode compute_guest_tsc() is given the time of the snapshot, which stands still, so the "
        + "guest's TSC is not moved on",
      source: "arch/x86/kvm/x86.c, kvm_guest_time_update()"),
    KnownDeviation(
      rule: "TSCKHZ-VM-SCOPE", until: KernelVersion(6, 17),
      cause: "the VM's TSC frequency can be set after a vCPU was made",
      source: "Linux dcbe5a466c12 (6.17)"),
    KnownDeviation(
      rule: "SUSPEND-STOPPED-FLAG", until: KernelVersion(5, 14),
      cause: "KVM is not told of a suspend, and so tells no guest",
      source: "Linux 7d62874f69d7 (5.14)"),
  ]

  init(
    rule: String, since: KernelVersion? = nil, until: KernelVersion? = nil, always: Bool = true,
    cause: String, source: String
  ) {
    self.rule = rule
    self.since = since
    self.until = until
    self.always = always
    self.cause = cause
    self.source = source
  }
}

/// The two numbers of a kernel release that order it.
public struct KernelVersion: Hashable, Sendable, Codable, Comparable {
  public var major: Int
  public var minor: Int

  public init(_ major: Int, _ minor: Int) {
    self.major = major
    self.minor = minor
  }

  /// Reads the start of `uname -r`: "6.12.117-amd64" is 6.12.
  public init?(_ release: String) {
    let parts = release.split(separator: ".", maxSplits: 2)
    guard parts.count >= 2, let major = Int(parts[0]),
      let minor = Int(parts[1].prefix { $0.isNumber })
    else { return nil }
    self.init(major, minor)
  }

  public static func < (left: Self, right: Self) -> Bool {
    (left.major, left.minor) < (right.major, right.minor)
  }
}
