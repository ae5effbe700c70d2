internal import CKVM

extension kvm_enable_cap {
  init(_ capability: Capability, flags: UInt32, arguments: [UInt64]) {
    require(arguments.count <= 4, "a capability takes at most 4 arguments")
    let padded = arguments + [UInt64](repeating: 0, count: 4 - arguments.count)
    self.init()
    cap = capability.rawValue
    self.flags = flags
    args = (padded[0], padded[1], padded[2], padded[3])
  }
}
