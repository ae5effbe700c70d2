@testable import ABIChecker

extension Script {
  static func scaledTSC(_ host: inout HistoryBuilder) {
    let own = SimulatedTime.tscKHz
    host.host(.capability(name: "KVM_CAP_TSC_CONTROL", value: 1))
    host.host(.capability(name: "KVM_CAP_VM_TSC_CONTROL", value: 1))
    for kHz in [own / 2, own / 3 * 4] {
      host.machine(0, 1)
      for id in [0, 1] { host.scaleTSC(id, kHz) }
      host.useClock()
      host.createMachine()
      host.scaleTSCOfVM(kHz)
      for id in [0, 1] { host.createVCPU(id) }
      host.useClock()
      host.machine(0, 1)
      for id in [0, 1] { host.register(id) }
      for frequency in [kHz, own] {
        for id in [0, 1] { host.read(id) }
        for id in [0, 1] { host.scaleTSC(id, frequency) }
        for id in [0, 1] { host.read(id) }
        host.useClock()
      }
      for (before, after) in [(kHz, kHz), (own, kHz), (kHz, own)] {
        host.machine(0, 1)
        for id in [0, 1] where before != own { host.scaleTSC(id, before) }
        for id in [0, 1] { host.register(id) }
        for id in [0, 1] { host.read(id) }
        host.wait(milliseconds: 3)
        for id in [0, 1] { host.read(id) }
        host.migrate(at: after == own ? nil : after)
      }
    }
  }
}
