internal import CKVM

/// The VM's clock as the kernel tells it: nanoseconds, and what they were taken together with.
public struct ClockData: Hashable, Sendable {
  /// The guest's system time, in nanoseconds.
  public var clock: UInt64

  /// Which of the other fields are valid, and what the clock is based on.
  public var flags: ClockFlags

  /// The host's `CLOCK_REALTIME` at the same moment, in nanoseconds; valid with `.realtime`.
  public var realtime: UInt64

  /// The host's TSC at the same moment, in cycles; valid with `.hostTSC`.
  public var hostTSC: UInt64

  public init(
    clock: UInt64, flags: ClockFlags = [], realtime: UInt64 = 0, hostTSC: UInt64 = 0
  ) {
    self.clock = clock
    self.flags = flags
    self.realtime = realtime
    self.hostTSC = hostTSC
  }
}

/// The flags of `ClockData`.
public struct ClockFlags: OptionSet, Hashable, Sendable {
  public let rawValue: UInt32

  public init(rawValue: UInt32) {
    self.rawValue = rawValue
  }

  /// All vCPUs see the exact same clock; the kernel's name is `KVM_CLOCK_TSC_STABLE`.
  public static let tscStable = ClockFlags(rawValue: 2)

  /// `realtime` is valid; the kernel's name is `KVM_CLOCK_REALTIME`.
  public static let realtime = ClockFlags(rawValue: 4)

  /// `hostTSC` is valid; the kernel's name is `KVM_CLOCK_HOST_TSC`.
  public static let hostTSC = ClockFlags(rawValue: 8)
}

extension ClockData {
  init(_ data: kvm_clock_data) {
    self.init(
      clock: data.clock, flags: ClockFlags(rawValue: data.flags), realtime: data.realtime,
      hostTSC: data.host_tsc)
  }

  var kernelData: kvm_clock_data {
    var data = kvm_clock_data()
    data.clock = clock
    data.flags = flags.rawValue
    data.realtime = realtime
    data.host_tsc = hostTSC
    return data
  }
}
