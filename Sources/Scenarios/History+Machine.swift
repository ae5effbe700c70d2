internal import ABIChecker
internal import KVM
internal import PVClock
internal import VMBuilder

// From the machine's types to the history's.

extension Errno {
  init(_ error: KVMError) { self.init(error.errnoName) }

  /// An error number as a system call gives it; 0 for none.
  init(number: Int32) {
    self = number == 0 ? .none : Self(KVMError(request: "", errno: number))
  }
}

extension Fault {
  init?(_ fault: GuestFault?) {
    guard let fault else { return nil }
    self.init(
      vector: fault.vector, errorCode: fault.errorCode, address: fault.instructionPointer)
  }
}

extension Reading {
  init(_ reading: GuestReading) { self.init(tsc: reading.tsc, page: reading.page) }
}

extension ClockRecord {
  init(_ data: ClockData) {
    self.init(
      clock: data.clock, flags: data.flags.rawValue, realtime: data.realtime,
      hostTSC: data.hostTSC)
  }
}

extension LoopResult {
  init(_ loop: GuestLoop, of guest: GuestImage) {
    self.init(
      reads: loop.reads, backwards: loop.backwards, beyond: loop.beyond,
      excess: guest == .rewriter ? loop.excess : nil, negative: loop.negative, worst: loop.worst,
      unstable: loop.unstable, versions: loop.versions, minimum: loop.minimum,
      witnessed: guest == .sampler ? loop.witnessed : nil,
      first: Reading(loop.first), last: Reading(loop.last), worstBefore: loop.worstBefore,
      worstAfter: Reading(loop.worstAfter))
  }
}
