import PVClock

@testable import ABIChecker

// A VM that goes on from a saved one, its TSCs restored by KVM_SET_MSRS.

extension HistoryBuilder {
  /// A second of the TSC, in cycles.
  static let second = Int64(SimulatedTime.tscKHz) * 1000

  /// What was saved of a VM that ran for ten hours by its TSC.
  struct Saved {
    var clock: UInt64
    var tscs: [Int: UInt64]
    var msrs: [Int: UInt64]
    var records: [UInt64: ClockPage]
  }

  mutating func hostReadTSC(_ id: Int) {
    bracketed(.host) { host in
      let value = host.time.cycles &+ host.vcpus[id]!.tscOffset
      return [.hostReadMSR(vcpu: id, msr: Hex(MSR.tsc), value: Hex(value))]
    }
  }

  mutating func saveRunningMachine() -> Saved {
    machine(0, 1)
    for id in [0, 1] { register(id) }
    settleAndLook()
    getClock()
    var saved = Saved(
      clock: clock, tscs: [:], msrs: vcpus.mapValues(\.msr), records: records)
    for id in [0, 1] {
      hostReadMSR(id, MSR.systemTime)
      hostReadTSC(id)
      saved.tscs[id] = time.cycles &+ vcpus[id]!.tscOffset &+ UInt64(36_000 * Self.second)
    }
    if case .getClock(let record) = events.last(where: \.isGetClock)?.action {
      saved.clock = record.clock
    }
    host(.saved)
    return saved
  }

  enum RestoreStep { case clock, records, tscs, offsets }

  /// `fault` gets each vCPU after its TSC was written.
  mutating func restore(
    _ saved: Saved, in order: [RestoreStep] = [.clock, .records, .tscs],
    ahead: [Int: Int64] = [:], parked: (vcpu: Int, isRestored: Bool)? = nil,
    _ fault: (inout HistoryBuilder, Int) -> Void = { _, _ in }
  ) {
    createMachine()
    records = saved.records
    let ids = saved.tscs.keys.sorted()
    for id in ids + (parked.map { [$0.vcpu] } ?? []) { createVCPU(id) }
    for step in order {
      switch step {
      case .clock: setClock(saved.clock)
      case .records: for id in ids { hostWriteMSR(id, MSR.systemTime, saved.msrs[id]!) }
      case .tscs:
        for id in ids {
          restoreTSC(id, to: saved.tscs[id]! &+ UInt64(bitPattern: ahead[id] ?? 0))
          fault(&self, id)
        }
      case .offsets:
        let offset = saved.tscs[0]! &- time.cycles
        for id in ids {
          setTSCOffset(id, offset)
          fault(&self, id)
        }
      }
    }
    if let parked, parked.isRestored { restoreTSC(parked.vcpu, to: saved.tscs[0]!) }
  }

  mutating func restoreTSC(_ id: Int, to value: UInt64) {
    hostWriteTSC(id, value)
    wait(milliseconds: 2)
  }

  mutating func readAndSettle(except parked: Int? = nil) {
    let ids = vcpus.keys.sorted().filter { $0 != parked }
    for _ in 0..<2 {
      for id in ids { read(id) }
    }
    for id in ids { look(id) }
    getClock()
  }
}

extension Event {
  fileprivate var isGetClock: Bool { if case .getClock = action { true } else { false } }
}
