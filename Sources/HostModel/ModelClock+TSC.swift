internal import ABIChecker
internal import KVM
internal import VMBuilder

// The guest's TSC is KVM's business, but a clock that hangs on it has to know when the guest moves it: in the middle of an entry there
// is nobody else to write a new record.

extension ModelClock {
  static func isTSC(_ msr: UInt32) -> Bool { msr == MSR.tsc || msr == MSR.tscAdjust }

  /// Moves the TSC as the processor would: IA32_TSC is set to a value, IA32_TSC_ADJUST by the difference to what it was.
  func guestWritesTSC(_ msr: UInt32, _ value: UInt64, _ vcpu: borrowing VCPU) -> Bool {
    do throws(KVMError) {
      let offset = try vcpu.tscOffset()
      let adjust = try vcpu.msr(MSR.tscAdjust)
      let step =
        msr == MSR.tsc ? value &- (Moment.after().tsc &+ offset) : value &- adjust
      try vcpu.setTSCOffset(offset &+ step)
      // The host's write of it moves nothing.
      try vcpu.setMSR(MSR.tscAdjust, to: adjust &+ step)
      return true
    } catch {
      return false
    }
  }
}
