@testable import ABIChecker

extension Script {
  static func initReset(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    for (sender, target) in [(1, 0), (0, 1)] {
      host.read(target)
      host.wait(milliseconds: 2)
      host.initReset(target, from: sender)
      host.register(target)
      host.initReset(target, from: sender)
      for id in [target, sender] { host.look(id, at: UInt64(0x10000 + id * 0x1000)) }
      host.setClock(86_400_000_000_000)
      for id in [target, sender] { host.enter(id) }
      for id in [target, sender] { host.look(id, at: UInt64(0x10000 + id * 0x1000)) }
      host.register(target)
    }
  }

  static func migration(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.tellStopped(0)
    for id in [0, 1] { host.read(id) }
    host.migrate()
    host.migrate(realtime: true, telling: 1)
    host.register(0, msr: MSR.systemTimeOld)
    for id in [1, 0] { host.read(id) }
    host.migrate(through: MSR.systemTimeOld)
    host.register(0, msr: MSR.systemTimeOld)
    for id in [1, 0] { host.read(id) }
  }

  static func many(_ host: inout HistoryBuilder) {
    let ids = 0..<9
    host.createMachine()
    for id in ids { host.createVCPU(id) }
    for id in ids { host.register(id, at: 0x10000 + UInt64(id) * 64) }
    for id in ids.reversed() { host.read(id) }
    host.setClock(77_777_777_777)
    for id in ids { host.read(id) }
  }
}

extension HistoryBuilder {
  /// INIT from another vCPU; then the host and the guest read both MSRs.
  mutating func initReset(_ id: Int, from sender: Int, reading value: Hex = 0) {
    replug(id, how: .initialized(by: sender))
    for msr in [MSR.systemTime, MSR.systemTimeOld] {
      host(.hostReadMSR(vcpu: id, msr: Hex(msr), value: value))
      host(.tick)
      bracketed(.vcpu(id)) { _ in [.readMSR(msr: Hex(msr), value: value, fault: nil)] }
    }
  }
}
