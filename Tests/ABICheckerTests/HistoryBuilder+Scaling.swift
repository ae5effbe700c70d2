import PVClock

@testable import ABIChecker

// TSCs that count at another rate than the host's.

extension HistoryBuilder {
  /// The host's TSC as a vCPU's guest would read it.
  func guestTSC(_ cycles: UInt64, on id: Int) -> UInt64 {
    scaled(cycles, vcpus[id]!.scaledKHz) &+ vcpus[id]!.tscOffset
  }

  private func scaled(_ cycles: UInt64, _ kHz: UInt32?) -> UInt64 {
    guard let kHz else { return cycles }
    let ratio = (UInt128(kHz) << 32) / UInt128(SimulatedTime.tscKHz)
    return UInt64(truncatingIfNeeded: (UInt128(cycles) * ratio) >> 32)
  }

  /// What KVM writes into a vCPU's record.
  func scale(of id: Int) -> TSCScale {
    let kHz = vcpus[id]!.scaledKHz
    return TSCScale(tscKHz: kHz.map { countsWholeKHz ? $0 - 1 : $0 } ?? SimulatedTime.tscKHz)
  }

  /// What `KVM_GET_CLOCK` counts: as the guests do, or, as Linux does, by the host's TSC.
  func nanoseconds(from start: UInt64, to end: UInt64) -> UInt64 {
    guard let id = vcpus.keys.min(), let kHz = vcpus[id]!.scaledKHz, !countsWholeKHz else {
      return TSCScale(tscKHz: SimulatedTime.tscKHz).nanoseconds(cycles: end - start)
    }
    return scale(of: id).nanoseconds(cycles: scaled(end, kHz) - scaled(start, kHz))
  }

  /// KVM_SET_TSC_KHZ on a host that scales, and KVM_GET_TSC_KHZ. With `updates` false KVM forgets the record.
  mutating func scaleTSC(
    _ id: Int, _ kHz: UInt32, updates: Bool = true, counts actual: UInt32? = nil
  ) {
    bracketed(.host) { host in
      let rate = actual ?? kHz
      host.vcpus[id]?.scaledKHz = rate == SimulatedTime.tscKHz ? nil : rate
      if updates { host.vcpus[id]?.wantsRecord = true }
      return [.setTSCKHz(vcpu: id, kHz: kHz, error: nil)]
    }
    host(.tscKHz(vcpu: id, kHz: kHz))
  }

  mutating func scaleTSCOfVM(_ kHz: UInt32) {
    kHzOfNewVCPUs = kHz
    host(.setTSCKHz(vcpu: nil, kHz: kHz, error: nil))
  }

  /// What the scenario does with two vCPUs that have their frequencies.
  mutating func useClock(_ fault: (inout HistoryBuilder) -> Void = { _ in }) {
    for id in [0, 1, 0] {
      register(id)
      noteOffset(id)
    }
    for id in [0, 1] {
      getClock()
      read(id)
    }
    for id in [0, 1] { look(id) }
    getClock()
    for id in [0, 1] { look(id) }
    wait(milliseconds: 3)
    fault(&self)
    getClock()
    for id in [0, 1] { look(id) }
    for id in [0, 1] { read(id) }
    setClock(77_000_000_000)
    for id in [0, 1, 0, 1] { read(id) }
    getClock()
  }

  /// Saves the VM and goes on with it, at another frequency if one is given; `fault` acts before the first entry.
  mutating func migrate(at kHz: UInt32?, _ fault: (inout HistoryBuilder) -> Void = { _ in }) {
    let saved = (vcpus, records)
    getClock()
    guard case .getClock(let clock)? = events.last?.action else { return }
    host(.saved)
    wait(milliseconds: 2)
    createMachine()
    records = saved.1
    for id in [0, 1] { createVCPU(id) }
    for id in [0, 1] { if let kHz { scaleTSC(id, kHz) } }
    for id in [0, 1] { hostWriteMSR(id, MSR.systemTime, saved.0[id]!.msr) }
    setClock(clock.clock)
    fault(&self)
    for id in [0, 1, 0, 1] { read(id) }
    wait(milliseconds: 3)
    for id in [0, 1] { read(id) }
    getClock()
  }
}
