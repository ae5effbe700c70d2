@testable import ABIChecker

extension Script {
  static func cpuid24(_ host: inout HistoryBuilder) {
    for features: Hex in [0x0100_0009, 9] {
      host.machine(0)
      host.host(.featuresSet(vcpu: 0, features: features))
      host.register(0)
      host.enter(0)
      host.look(0)
      host.getClock()
    }
  }

  static func replug(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    for how in [Reset.initialized(by: 1), .userSpace] {
      host.read(0)
      host.wait(milliseconds: 5)
      host.read(0)
      host.replug(0, how: how)
      host.register(0)
    }
  }

  static func scheduleOffset(_ host: inout HistoryBuilder) {
    for msr in [MSR.systemTime, MSR.systemTimeOld] {
      host.machine(0, 1)
      host.register(0, msr: msr)
      host.register(1)
      for id in [0, 1, 0, 1] { host.read(id) }
      host.machine(0)
      host.register(0, msr: msr)
      host.createVCPU(1)
      host.register(1)
      for id in [0, 1, 0, 1] { host.read(id) }
    }
  }

  static func modes(_ host: inout HistoryBuilder) {
    host.machine(0)
    for mode in CPUMode.allCases {
      host.host(.booted(vcpu: 0, guest: "agent", mode: mode))
      host.register(0)
      if mode == .long { host.read(0, ring: 3) }
    }
  }

  static func rewriter(_ host: inout HistoryBuilder) {
    host.machine(0)
    host.setClock(86_400_000_000_000)
    for msr in [MSR.systemTime, MSR.systemTimeOld] {
      host.register(0, msr: msr)
      host.loop(0, "rewriter", reads: 4000)
      host.register(0, msr: msr)
    }
  }

  static func schedclock(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    for id in [0, 1, 0] { host.register(id) }
    host.loop(0)
    host.loop(1)
    host.createVCPU(2)
    host.register(2)
    host.loop(2)
    host.replug(0)
    host.register(0)
    host.loop(0)
  }
}
