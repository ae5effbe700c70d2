internal import ABIChecker
internal import KVM
internal import Synchronization
internal import VMBuilder

/// KVM's own clock, disturbed: a guest's write of the system-time MSR is repeated by KVM_SET_MSRS, and where it was
/// vCPU 0's, KVM_SET_CLOCK restarts time. So the breakage of Linux 4.2 can be had on any kernel.
final class Interference: ClockServer {
  /// Only the writes matter, but the filter decides for both directions.
  let msrs: [ClosedRange<UInt32>] = [
    MSR.systemTimeOld...MSR.systemTimeOld, MSR.systemTime...MSR.systemTime,
  ]
  private let space = Mutex<GuestSpace?>(nil)

  func vmCreated(_ space: GuestSpace) { self.space.withLock { $0 = space } }
  func vcpuCreated(_ id: Int, _ vcpu: borrowing VCPU, features: UInt32?, isConfined: Bool) {}
  func willEnter(_ id: Int, _ vcpu: borrowing VCPU) {}
  func vcpuReset(_ id: Int) {}

  func guestReads(_ msr: UInt32, _ id: Int, _ vcpu: borrowing VCPU) -> UInt64? {
    try? vcpu.msr(msr)
  }

  func guestWrites(_ msr: UInt32, _ value: UInt64, _ id: Int, _ vcpu: borrowing VCPU) -> Bool {
    do throws(KVMError) {
      try vcpu.setMSR(msr, to: value)
      if id == 0 { try setClock(ClockData(clock: 0)) }
      return true
    } catch {
      return false
    }
  }

  func hostReads(_ msr: UInt32, _ id: Int, _ vcpu: borrowing VCPU) throws(KVMError) -> UInt64 {
    try vcpu.msr(msr)
  }

  func hostWrites(
    _ msr: UInt32, _ value: UInt64, _ id: Int, _ vcpu: borrowing VCPU
  ) throws(KVMError) -> Bool {
    try vcpu.setMSRs([(msr, value)]) == 1
  }

  func clock() throws(KVMError) -> ClockData { try vm.vm.clock() }
  func setClock(_ data: ClockData) throws(KVMError) { try vm.vm.setClock(data) }
  func tellStopped(_ id: Int, _ vcpu: borrowing VCPU) throws(KVMError) {
    try vcpu.markGuestPaused()
  }

  private var vm: GuestSpace { space.withLock { $0! } }
}
