internal import KVM
internal import PVClock

/// Where a host can go wrong: what is called at each place, if anything, to do something else. All nil is the ABI.
struct Deviation: Sendable {
  enum Instead { case done, fault }

  /// Before a vCPU goes in.
  var entered: (@Sendable (inout VMClock, Int) -> Void)?
  /// After a vCPU's TSC was given a frequency, in kHz.
  var tuned: (@Sendable (inout VMClock, Int, UInt32) -> Void)?
  /// Instead of INIT's effect, where it returns true.
  var reset: (@Sendable (inout VMClock, Int) -> Bool)?
  /// The value of an MSR, before it is returned.
  var read: (@Sendable (inout VMClock, Access, inout UInt64) -> Void)?
  /// The value that is written to an MSR, before that has an effect; or instead of it.
  var write: (@Sendable (inout VMClock, Access, inout UInt64) -> Instead?)?
  /// Whether CPUID's features allow a confined guest the MSR.
  var mayUse: (@Sendable (UInt32, UInt32) -> Bool?)?
  /// A vCPU's record before it is written; what stood there is the third argument.
  var record: (@Sendable (inout VMClock, Int, ClockPage, inout ClockPage) -> Void)?
  /// The writes that it consists of.
  var stores: (@Sendable (inout VMClock, Int, ClockPage, inout [Store]) -> Void)?
  /// A record that may not be written.
  var unserved: (@Sendable (inout VMClock, Int) -> Void)?
  /// What KVM_GET_CLOCK returns.
  var get: (@Sendable (inout VMClock, inout ClockData) -> Void)?
  /// What KVM_SET_CLOCK is given; true lets any flag pass.
  var set: (@Sendable (inout VMClock, inout ClockData) -> Bool)?
  /// Instead of KVM_KVMCLOCK_CTRL, where it returns true.
  var tellStopped: (@Sendable (inout VMClock, Int) -> Bool)?
  var wallRecord: (@Sendable (inout VMClock, WallClock, inout WallClock) -> Void)?
  var wallStores: (@Sendable (inout VMClock, UInt64, inout [Store]) -> Void)?
  var wallUnserved: (@Sendable (inout VMClock, UInt64) -> Void)?

  /// Something besides the effect of a write to an MSR, and before it.
  mutating func beforeWrite(_ act: @escaping @Sendable (inout VMClock, Access, UInt64) -> Void) {
    write = { clock, access, value in
      act(&clock, access, value)
      return nil
    }
  }
}
