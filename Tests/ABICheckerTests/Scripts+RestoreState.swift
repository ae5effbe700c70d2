@testable import ABIChecker

extension Script {
  static func restoreState(_ host: inout HistoryBuilder) {
    let saved = host.saveTold()
    host.goOn(with: saved)
    for id in [0, 1] { host.enter(id) }
    for id in [0, 1] { host.look(id) }
    for id in [0, 1] {
      host.tellStopped(id)
      host.enter(id)
      host.look(id)
    }
    for (sender, target) in [(1, 0), (0, 1)] {
      host.initAfterRestore(target, from: sender, saved)
    }
  }

  static func postCopy(_ host: inout HistoryBuilder) {
    host.machineInMemory()
    for id in [0, 1] { host.postCopy(id) }
  }
}

extension HistoryBuilder {
  /// Guests that are told that they were stopped, and saved before they enter.
  mutating func saveTold(delivering: Bool = false) -> Saved {
    machine(0, 1)
    for id in [0, 1] { register(id) }
    settleAndLook()
    for id in [0, 1] {
      tellStopped(id)
      if delivering { enter(id) }
      look(id)
    }
    getClock()
    let saved = Saved(clock: clock, tscs: [:], msrs: vcpus.mapValues(\.msr), records: records)
    host(.saved)
    return saved
  }

  mutating func goOn(with saved: Saved) {
    createMachine()
    records = saved.records
    for id in [0, 1] { createVCPU(id) }
    for id in [0, 1] { hostWriteMSR(id, MSR.systemTime, saved.msrs[id]!) }
    setClock(saved.clock)
  }

  /// `fault` acts after INIT.
  mutating func initAfterRestore(
    _ target: Int, from sender: Int, _ saved: Saved, reading value: Hex = 0,
    _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) {
    let address = UInt64(0x10000 + target * 0x1000)
    goOn(with: saved)
    for id in [0, 1, 0, 1] { read(id) }
    replug(target, how: .initialized(by: sender))
    for msr in [MSR.systemTime, MSR.systemTimeOld] {
      host(.hostReadMSR(vcpu: target, msr: Hex(msr), value: value))
    }
    look(target, at: address)
    setClock(88_000_000_000)
    fault(&self)
    for id in [target, sender] { enter(id) }
    look(target, at: address)
    read(sender)
    register(target)
    for id in [target, sender] { read(id) }
  }

  /// A record whose page is away while an update is due; `fault` acts once it is there.
  mutating func postCopy(
    _ id: Int, waits: Bool = true, _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) {
    let page = UInt64(0x1000_0000 + id << 26)
    let record = page + 64
    setSlot(id + 1, at: page, id + 1)
    register(id, at: record)
    let reasons: [(inout HistoryBuilder) -> Void] = [
      { $0.setClock(55_000_000_000) }, { $0.run(id, .write(MSR.systemTime, record | 1)) },
      { $0.hostWriteMSR(id, MSR.systemTime, record | 1) }, { $0.tellStopped(id) },
    ]
    for reason in reasons {
      for other in [0, 1] { enter(other) }
      look(id)
      host(.pagesMissing(memory: id + 1))
      reason(&self)
      enter(id)
      if waits { host(.pageSupplied(memory: id + 1, page: 0)) }
      fault(&self)
      look(id)
      setClock(66_000_000_000)
      read(id)
    }
  }
}
