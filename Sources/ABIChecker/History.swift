public import PVClock

/// What one run of a scenario leaves behind: where it ran, and what happened in which order.
public struct History: Hashable, Sendable {
  public var header: Header
  public var events: [Event]

  public init(header: Header, events: [Event] = []) {
    self.header = header
    self.events = events
  }
}

/// The first line of a saved history.
public struct Header: Hashable, Sendable, Codable {
  /// Newest version of the format that this code reads; it writes this one.
  public static let currentVersion = 7
  /// From this one on the last line of a file says that it is the last.
  public static let firstVersionWithEnd = 6
  /// From this one on the header says which run recorded it, and no name of a value is `_0`.
  public static let firstVersionWithRun = 7
  public static let formatName = "kvmclock-history"

  public var format: String
  public var version: Int
  public var scenario: String
  /// Seed of the scenario's random choices; the same seed makes the same choices.
  public var seed: UInt64
  /// 1 for the first run of the scenario, 2 and more for its retries.
  public var attempt: Int
  public var host: HostFacts
  /// The run that recorded it; nil in histories of older formats.
  public var run: RunFacts?

  /// The scenario and the attempt: "rewrite.1".
  public var name: String { "\(scenario).\(attempt)" }

  public init(scenario: String, seed: UInt64, attempt: Int = 1, host: HostFacts) {
    self.format = Self.formatName
    self.version = Self.currentVersion
    self.scenario = scenario
    self.seed = seed
    self.attempt = attempt
    self.host = host
  }
}

/// The run that recorded a history: enough to tell two runs apart, and to repeat one.
public struct RunFacts: Hashable, Sendable, Codable {
  /// The version of the program.
  public var kvmclock: String
  /// When it began, as "2026-11-25T02:35:00Z".
  public var date: String
  /// The machine's name.
  public var hostname: String?
  /// The command that recorded it: "run".
  public var command: String
  /// Its options that a repetition needs besides the rules and the seed: " --host model".
  public var options: String

  public init(
    kvmclock: String, date: String, hostname: String?, command: String, options: String
  ) {
    self.kvmclock = kvmclock
    self.date = date
    self.hostname = hostname
    self.command = command
    self.options = options
  }
}

/// What rules need to know of the host, found out without the ioctls under test.
public struct HostFacts: Hashable, Sendable, Codable {
  /// `uname -r`.
  public var kernel: String
  /// The KVM backend's module: kvm_intel, kvm_amd, …
  public var backend: String?
  /// The host's clocksource as sysfs names it; nil where sysfs is absent.
  public var clocksource: String?
  /// `KVM_GET_TSC_KHZ` of a fresh vCPU, in kHz.
  public var tscKHz: UInt32?
  /// Who served the guests' clock in the place of KVM; nil for KVM itself.
  public var clock: String?
  /// The VMM that made the machines, by name and version; nil for this harness itself.
  public var vmm: String?
  /// What the machine is, for people; no rule asks for it.
  public var machine: MachineFacts?

  public init(
    kernel: String, backend: String? = nil, clocksource: String? = nil, tscKHz: UInt32? = nil,
    clock: String? = nil, vmm: String? = nil
  ) {
    self.kernel = kernel
    self.backend = backend
    self.clocksource = clocksource
    self.tscKHz = tscKHz
    self.clock = clock
    self.vmm = vmm
  }

  /// Whether both are the same, but for what only people ask for: an older file does not say it.
  public func isSameHost(as other: HostFacts) -> Bool {
    var (one, other) = (self, other)
    one.machine = nil
    other.machine = nil
    return one == other
  }

  /// Whether the host's clocksource lets KVM run a VM in master-clock mode; nil if unknown.
  public var clocksourceIsTSC: Bool? {
    clocksource.map { $0 == "tsc" || $0 == "hyperv_clocksource_tsc_page" }
  }
}

/// What can make two hosts with one kernel behave differently.
public struct MachineFacts: Hashable, Sendable, Codable {
  /// The CPU's name, family, model and stepping.
  public var cpu: String?
  public var microcode: String?
  /// The parameters of kvm and of the backend's module, by module and name: "kvm.tsc_tolerance_ppm".
  public var parameters: [String: String]
  /// `/proc/sys/kernel/tainted`; 0 for a kernel that is not tainted.
  public var taint: String?
  /// `/proc/cmdline`.
  public var commandLine: String?

  public init(
    cpu: String? = nil, microcode: String? = nil, parameters: [String: String] = [:],
    taint: String? = nil, commandLine: String? = nil
  ) {
    self.cpu = cpu
    self.microcode = microcode
    self.parameters = parameters
    self.taint = taint
    self.commandLine = commandLine
  }
}

extension MachineFacts {
  /// All of it, each with its name.
  public var items: [(String, String)] {
    let named = [
      ("CPU", cpu), ("microcode", microcode), ("kernel taint", taint),
      ("command line", commandLine),
    ]
    return named.compactMap { name, value in value.map { (name, $0) } }
      + parameters.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }
}

/// The host's two independent clocks at one moment.
public struct Instant: Hashable, Sendable {
  /// Host TSC, in cycles.
  public var tsc: UInt64
  /// CLOCK_MONOTONIC_RAW, in nanoseconds.
  public var raw: UInt64

  public init(tsc: UInt64, raw: UInt64) {
    self.tsc = tsc
    self.raw = raw
  }
}

/// Who acted.
public enum Actor: Hashable, Sendable {
  case host
  case vcpu(Int)
}

/// One thing done or seen, and the two moments between which it happened.
///
/// `began` was read before the action, CLOCK_MONOTONIC_RAW first and the TSC second; `ended` after it, in
/// the opposite order. So both clocks bracket the action, and CLOCK_MONOTONIC_RAW also brackets the TSC.
public struct Event: Hashable, Sendable {
  /// Position in the history, from 1.
  public var number: Int
  public var actor: Actor
  public var began: Instant
  public var ended: Instant
  public var action: Action
  /// The machine, where several are alive at once; nil for the one made last.
  public var machine: Int?

  public init(
    number: Int, actor: Actor, began: Instant, ended: Instant, action: Action, machine: Int? = nil
  ) {
    self.machine = machine
    self.number = number
    self.actor = actor
    self.began = began
    self.ended = ended
    self.action = action
  }
}

/// An exception that a guest took where it was asked to do something.
public struct Fault: Hashable, Sendable, Codable {
  /// Exception vector: 6 #UD, 13 #GP, 14 #PF, …
  public var vector: UInt32
  public var errorCode: UInt32
  /// Address of the instruction that raised it.
  public var address: Hex

  public init(vector: UInt32, errorCode: UInt32, address: UInt64) {
    self.vector = vector
    self.errorCode = errorCode
    self.address = Hex(address)
  }
}

/// The CPU mode in which a guest runs.
public enum CPUMode: String, Hashable, Sendable, Codable, CaseIterable {
  case real, protected, long
}

/// What `KVM_GET_CLOCK` returned or `KVM_SET_CLOCK` was given.
public struct ClockRecord: Hashable, Sendable, Codable {
  /// kvmclock, in nanoseconds.
  public var clock: UInt64
  /// KVM_CLOCK_TSC_STABLE 2, KVM_CLOCK_REALTIME 4, KVM_CLOCK_HOST_TSC 8.
  public var flags: UInt32
  /// CLOCK_REALTIME, in nanoseconds; meaningful with flag 4.
  public var realtime: UInt64
  /// Host TSC, in cycles; meaningful with flag 8.
  public var hostTSC: UInt64
  /// The structure's five reserved words, in their order; nil where nobody looked.
  public var reserved: [UInt32]?

  public init(
    clock: UInt64, flags: UInt32 = 0, realtime: UInt64 = 0, hostTSC: UInt64 = 0,
    reserved: [UInt32]? = nil
  ) {
    self.clock = clock
    self.flags = flags
    self.realtime = realtime
    self.hostTSC = hostTSC
    self.reserved = reserved
  }

  public var isTSCStable: Bool { flags & 2 != 0 }
  public var hasRealtime: Bool { flags & 4 != 0 }
  public var hasHostTSC: Bool { flags & 8 != 0 }
}

/// A guest's look at a clock record under the version protocol.
public struct Reading: Hashable, Sendable, Codable {
  /// Guest TSC between the two reads of the version, in cycles.
  public var tsc: UInt64
  public var page: ClockPage

  public init(tsc: UInt64, page: ClockPage) {
    self.tsc = tsc
    self.page = page
  }

  /// The clock's value in nanoseconds, modulo 2^64, as the guest computes it.
  public var value: UInt64 { page.systemTime(atTSC: tsc) }
}

/// What a guest that reads in a loop says of it.
public struct LoopResult: Hashable, Sendable, Codable {
  public var reads: UInt64
  /// Readings below the one before them.
  public var backwards: UInt64
  /// Readings below the one before them by more than that one's own update took.
  public var beyond: UInt64
  /// By how much the worst of those was more, in nanoseconds; nil where the guest does not say.
  public var excess: UInt64?
  /// Readings below the constant that the guest subtracts.
  public var negative: UInt64
  /// The largest step back, in nanoseconds, 0 or less.
  public var worst: Int64
  /// Readings without PVCLOCK_TSC_STABLE_BIT.
  public var unstable: UInt64
  /// Times the version differed from the reading before.
  public var versions: UInt64
  /// The smallest reading less the guest's constant, in nanoseconds.
  public var minimum: Int64
  /// Changes of another vCPU's version that the loop watched; nil where it watched none.
  public var witnessed: UInt64?
  public var first: Reading
  public var last: Reading
  /// The clock's value before the worst step, and the reading after it.
  public var worstBefore: UInt64
  public var worstAfter: Reading

  public init(
    reads: UInt64, backwards: UInt64 = 0, beyond: UInt64 = 0, excess: UInt64? = nil,
    negative: UInt64 = 0, worst: Int64 = 0, unstable: UInt64 = 0, versions: UInt64 = 0,
    minimum: Int64 = 0, witnessed: UInt64? = nil, first: Reading, last: Reading,
    worstBefore: UInt64 = 0, worstAfter: Reading? = nil
  ) {
    self.reads = reads
    self.backwards = backwards
    self.beyond = beyond
    self.excess = excess
    self.negative = negative
    self.worst = worst
    self.unstable = unstable
    self.versions = versions
    self.minimum = minimum
    self.witnessed = witnessed
    self.first = first
    self.last = last
    self.worstBefore = worstBefore
    self.worstAfter = worstAfter ?? last
  }
}

/// Bytes of guest memory that follow each other.
public struct MemoryRange: Hashable, Sendable, Codable {
  public var address: Hex
  public var count: Int

  public init(address: UInt64, count: Int) {
    self.address = Hex(address)
    self.count = count
  }
}

/// A piece of memory that holds something else than before; its first byte and its last one changed.
public struct MemoryChange: Hashable, Sendable, Codable {
  public var memory: Int
  public var offset: Hex
  /// What it holds now.
  public var bytes: HexBytes

  public init(memory: Int, offset: UInt64, bytes: [UInt8]) {
    self.memory = memory
    self.offset = Hex(offset)
    self.bytes = HexBytes(bytes)
  }
}

/// A page that the host was told of as written.
public struct NamedPage: Hashable, Sendable, Codable {
  /// The vCPU in whose dirty ring it was; nil if it was in none, but in the dirty log beside them.
  public var vcpu: Int?
  public var slot: Int
  /// Its number, from the slot's first page on.
  public var page: Int

  public init(vcpu: Int?, slot: Int, page: Int) {
    self.vcpu = vcpu
    self.slot = slot
    self.page = page
  }
}

/// What `KVM_GET_CLOCK` returned to threads that called it without pause, side by side.
public struct ClockCalls: Hashable, Sendable, Codable {
  public var threads: Int
  /// Calls of all threads.
  public var calls: UInt64
  /// Results below one that some thread had before the call began.
  public var backwards: UInt64
  /// By how much at most, in nanoseconds, 0 or less; and the two results.
  public var worst: Int64
  public var worstBefore: UInt64
  public var worstAfter: UInt64

  public init(
    threads: Int, calls: UInt64, backwards: UInt64 = 0, worst: Int64 = 0, worstBefore: UInt64 = 0,
    worstAfter: UInt64 = 0
  ) {
    self.threads = threads
    self.calls = calls
    self.backwards = backwards
    self.worst = worst
    self.worstBefore = worstBefore
    self.worstAfter = worstAfter
  }
}
