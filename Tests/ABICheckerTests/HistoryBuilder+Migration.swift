@testable import ABIChecker

// A VM that goes on as another one, and host clocks besides CLOCK_MONOTONIC_RAW.

extension HistoryBuilder {
  mutating func readHostClock(_ name: String) {
    bracketed(.host) { host in
      let isReal = name == "CLOCK_REALTIME"
      return [
        .hostClock(name: name, nanoseconds: isReal ? host.realtime : host.time.raw + host.asleep)
      ]
    }
  }

  /// `KVM_SET_CLOCK` with all that `KVM_GET_CLOCK` returned.
  mutating func setClock(record: ClockRecord) {
    bracketed(.host) { host in
      var value = record.clock
      if record.hasRealtime, host.realtime > record.realtime {
        value &+= host.realtime - record.realtime
      }
      host.restart(at: value)
      return [.setClock(record)]
    }
  }

  /// Saves the machine, waits and goes on with it in a new one; `fault` acts before the first entry.
  mutating func migrate(
    realtime: Bool = false, through msr: UInt32 = MSR.systemTime, milliseconds: UInt64 = 5,
    telling told: Int? = nil, _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) {
    readHostClock("CLOCK_REALTIME")
    getClock()
    guard case .getClock(let clock) = events.last?.action else { return }
    readHostClock("CLOCK_REALTIME")
    let ids = vcpus.keys.sorted()
    for id in ids {
      hostReadMSR(id, MSR.systemTime)
      host(.tscOffset(vcpu: id, cycles: vcpus[id]!.tscOffset))
    }
    host(.saved)
    let saved = (vcpus, records)
    wait(milliseconds: milliseconds)
    createMachine()
    records = saved.1
    for id in ids { createVCPU(id, tscOffset: saved.0[id]!.tscOffset) }
    for id in ids { hostWriteMSR(id, msr, saved.0[id]!.msr) }
    readHostClock("CLOCK_REALTIME")
    if realtime { setClock(record: clock) } else { setClock(clock.clock) }
    readHostClock("CLOCK_REALTIME")
    if let told { tellStopped(told) }
    fault(&self)
    for id in ids + ids where vcpus[id]!.isRegistered { read(id) }
  }
}
