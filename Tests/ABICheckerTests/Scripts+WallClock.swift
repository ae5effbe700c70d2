@testable import ABIChecker

extension Script {
  static func wallClock(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    wallByHost(&host)
    for id in [0, 1] {
      host.noteOffset(id)
      host.register(id)
    }
    for msr in [MSR.systemTime, MSR.systemTimeOld] {
      host.register(0, msr: msr)
      host.enter(1)
      for id in [0, 1] { wallEverywhere(&host, id) }
      wallByHost(&host)
    }
    for version: UInt32 in [0, 1, 2, 7, 0xffff_fffd, 0xffff_fffe, 0xffff_ffff] {
      host.pokeWall(0x30000, version)
      host.writeWall(0, at: 0x30000)
      host.lookAtWall(0x30000, count: 12)
    }
  }

  private static func wallEverywhere(_ host: inout HistoryBuilder, _ id: Int) {
    for offset: UInt64 in [0x100, 0x204, 0xffc, 0xff8, 0x301, 0x402, 0x503] {
      wall(&host, id, at: 0x30000 + offset, offset % 8 == 4 ? MSR.wallClock : MSR.wallClockOld)
    }
  }

  /// A fill, a write between two readings of CLOCK_REALTIME, a look.
  static func wall(
    _ host: inout HistoryBuilder, _ id: Int, at address: UInt64, _ msr: UInt32 = MSR.wallClock
  ) {
    host.fillWall(address - 64)
    host.readRealtime()
    host.writeWall(id, at: address, msr: msr)
    host.readRealtime()
    host.lookAtWall(address - 64)
  }

  private static func wallByHost(_ host: inout HistoryBuilder) {
    for msr in [MSR.wallClock, MSR.wallClockOld] {
      host.fillWall(0x40000)
      host.readRealtime()
      host.hostWriteWall(0, at: 0x40040, msr: msr)
      host.lookAtWall(0x40000)
      host.readRealtime()
      if host.vcpus[0]!.isRegistered { host.read(0) }
    }
  }

  static func wallMSR(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    host.fillWall(0, count: 256)
    host.fillWall(0x30000)
    host.writeWall(0, at: 0x30040)
    for value: UInt64 in [0, 1 << 45, 0xffff_ffff_ffff_fffc, 0, 1 << 46 | 1] {
      for id in [0, 1] {
        for (start, count) in [(0, 256), (0x30000, 140)] as [(UInt64, Int)] {
          host.lookAtWall(start, count: count)
        }
        host.writeWall(id, at: value ^ (value == 0 ? 0 : UInt64(id) << 4))
        host.readWallMSR(0, 1)
        for (start, count) in [(0, 256), (0x30000, 140)] as [(UInt64, Int)] {
          host.lookAtWall(start, count: count)
        }
      }
    }
    host.hostWriteWall(1, at: 0x50000, msr: MSR.wallClockOld)
    host.readWallMSR(0, 1)
    host.writeWall(1, at: 0x50001)
    host.createVCPU(2)
    host.readWallMSR(2)
  }

  static func wallLater(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    let hour: UInt64 = 3_600_000_000_000
    for value in [hour, 5 * hour, 0, 77 * hour, 1_000_000_000] {
      wall(&host, 0, at: 0x30040)
      host.wait(milliseconds: 20)
      host.setClock(value)
      for id in [0, 1] { host.register(id) }
      host.lookAtWall(0x30000)
    }
    wall(&host, 1, at: 0x30040)
  }

  static func wallRewrite(_ host: inout HistoryBuilder) {
    host.machine(0)
    for _ in 0..<2 { host.register(0) }
    host.readRealtime()
    for _ in 0..<8 {
      host.readRealtime()
      for _ in 0..<40 {
        host.writeWall(0, at: 0x30040)
        host.lookAtWall(0x30040, count: 12)
      }
    }
    host.readRealtime()
    host.writeWall(0, at: 0x30040)
    host.readRealtime()
    host.read(0)
    host.lookAtWall(0x30040, count: 12)
  }

  static func wallTorn(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    for address: UInt64 in [0x30100, 0x30ff8, 0x30ffc] {
      host.fillWall(address - 64)
      host.watchWall(1, at: address, rounds: 80) { host, round in
        host.setClock(UInt64(round + 1) * 3_600_000_000_000)
        if round % 2 == 0 {
          host.writeWall(0, at: address)
        } else {
          host.hostWriteWall(0, at: address)
        }
        host.lookAtWall(address, count: 12)
      }
    }
  }
}
