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
  public static let currentVersion = 1
  public static let formatName = "kvmclock-history"

  public var format: String
  public var version: Int
  public var scenario: String
  /// Seed of the scenario's random choices; the same seed makes the same choices.
  public var seed: UInt64
  /// 1 for the first run of the scenario, 2 and more for its retries.
  public var attempt: Int
  public var host: HostFacts

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

  public init(
    kernel: String, backend: String? = nil, clocksource: String? = nil, tscKHz: UInt32? = nil
  ) {
    self.kernel = kernel
    self.backend = backend
    self.clocksource = clocksource
    self.tscKHz = tscKHz
  }

  /// Whether the host's clocksource lets KVM run a VM in master-clock mode; nil if unknown.
  public var clocksourceIsTSC: Bool? {
    clocksource.map { $0 == "tsc" || $0 == "hyperv_clocksource_tsc_page" }
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

  public init(number: Int, actor: Actor, began: Instant, ended: Instant, action: Action) {
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

  public init(clock: UInt64, flags: UInt32 = 0, realtime: UInt64 = 0, hostTSC: UInt64 = 0) {
    self.clock = clock
    self.flags = flags
    self.realtime = realtime
    self.hostTSC = hostTSC
  }

  public var isTSCStable: Bool { flags & 2 != 0 }
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
  public var first: Reading
  public var last: Reading
  /// The clock's value before the worst step, and the reading after it.
  public var worstBefore: UInt64
  public var worstAfter: Reading

  public init(
    reads: UInt64, backwards: UInt64 = 0, beyond: UInt64 = 0, negative: UInt64 = 0,
    worst: Int64 = 0, unstable: UInt64 = 0, versions: UInt64 = 0, minimum: Int64 = 0,
    first: Reading, last: Reading, worstBefore: UInt64 = 0, worstAfter: Reading? = nil
  ) {
    self.reads = reads
    self.backwards = backwards
    self.beyond = beyond
    self.negative = negative
    self.worst = worst
    self.unstable = unstable
    self.versions = versions
    self.minimum = minimum
    self.first = first
    self.last = last
    self.worstBefore = worstBefore
    self.worstAfter = worstAfter ?? last
  }
}

/// Everything a scenario can record.
public enum Action: Hashable, Sendable, Codable {
  // The host, to the machine.
  case vmCreated
  case vcpuCreated(vcpu: Int)
  /// EAX of CPUID leaf 0x40000001 as the guest will see it.
  case featuresSet(vcpu: Int, features: Hex)
  case booted(vcpu: Int, guest: String, mode: CPUMode)
  /// The vCPU was taken out and put back, and how.
  case replugged(vcpu: Int, how: String)
  case filled(address: Hex, count: Int, byte: Hex)
  case poked(address: Hex, value: Hex)

  // What the host asked KVM, and its answer.
  case msrIndexList(indices: [Hex])
  case supportedCPUID(function: Hex, eax: Hex, ebx: Hex, ecx: Hex, edx: Hex)
  case capability(name: String, value: Int32)
  case tscKHz(vcpu: Int, kHz: UInt32)
  case tscOffset(vcpu: Int, cycles: UInt64)
  case getClock(ClockRecord)
  case setClock(ClockRecord)
  case hostWroteMSR(vcpu: Int, msr: Hex, value: Hex)
  case hostReadMSR(vcpu: Int, msr: Hex, value: Hex)
  /// `KVM_VCPU_TSC_OFFSET` was set; what it reads back as is a `tscOffset`.
  case setTSCOffset(vcpu: Int, cycles: UInt64)
  /// `KVM_SET_TSC_KHZ` of a vCPU, or of the whole VM if nil, and what KVM said if it refused.
  case setTSCKHz(vcpu: Int?, kHz: UInt32, error: String?)

  // What the host saw in guest memory while the vCPUs were out of the guest.
  case memory(address: Hex, bytes: HexBytes)
  case page(vcpu: Int, address: Hex, page: ClockPage)

  // The guest; the actor is the vCPU.
  /// The vCPU went into the guest and came back, nothing more: KVM serves its pending requests.
  case entered
  case wroteMSR(msr: Hex, value: Hex, fault: Fault?)
  case readMSR(msr: Hex, value: Hex, fault: Fault?)
  /// `settled` is false where the version stayed odd until the guest gave up.
  case read(address: Hex, ring: Int, reading: Reading, settled: Bool)
  case looped(guest: String, result: LoopResult)

  // Neither.
  /// Nothing at all: a bracket around nothing ties the TSC to CLOCK_MONOTONIC_RAW.
  case tick
  /// Something this host lacks, and how that was found out.
  case lacking(what: String, evidence: String)
  /// The scenario could not go on.
  case failed(reason: String)
  /// The host was suspended, or changed its clocksource, while the scenario ran. Kvmclock counts the time of a
  /// suspension and CLOCK_MONOTONIC_RAW does not; a clocksource takes the master clock away or brings it.
  case disturbed(how: String)
}
