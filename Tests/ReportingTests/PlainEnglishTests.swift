import Foundation
import Testing

/// Turns that cost readers time, each with the plain words for it. The list grows with each one that is found.
@Suite struct PlainEnglishTests {
  static let banned: [(turn: String, instead: String)] = [
    ("if not said", "default"),
    ("on whose word", "its source"),
    ("the motions of", "test a suspend"),
    ("kvmclock of our own", "our user-space model"),
    ("which costs power", "making the check less sensitive"),
    ("never the judge", "never used as the reference"),
    ("as in all such kernels", "known kernel bugs"),
    ("for the edit loop", "fast subset"),
    ("this program does not understand", "internal error"),
    ("what takes waiting", "rules that must wait"),
    ("is nowhere yet", "does not exist yet"),
    ("came away from", "largest difference"),
    ("from its first look", "each series starts at 0"),
    ("of the interval from its end", "margin"),
    ("is judged up to there", "up to the truncation"),
    ("farewells", "exit"),
    ("on his word", "by its source"),
  ]

  static let root = URL(filePath: #filePath).appending(path: "../../..").standardized

  static let files: [String] = {
    let folders = ["docs", "Sources", "fleet", "lab", "packaging", "guest-images"]
    let inside = folders.flatMap { folder in
      (FileManager.default.enumerator(atPath: root.appending(path: folder).path)?.allObjects ?? [])
        .compactMap { ($0 as? String).map { "\(folder)/\($0)" } }
    }
    return (["README.md", "CONTRIBUTING.md", "CHANGELOG.md"] + inside).filter { name in
      [".md", ".swift", ".py", ".yaml", ".yml", ".sh"].contains { name.hasSuffix($0) }
        && !name.hasPrefix("lab/out")
    }
  }()

  @Test func noFileHasATurnThatCostsReadersTime() throws {
    #expect(Self.files.count > 200)
    for name in Self.files {
      let text = try String(contentsOf: Self.root.appending(path: name), encoding: .utf8)
        .replacing(/\s+(?:\/\/\/?\s*)?/, with: " ").lowercased()
      for (turn, instead) in Self.banned where text.contains(turn) {
        Issue.record("\(name): “\(turn)”; plain: \(instead)")
      }
    }
  }
}
