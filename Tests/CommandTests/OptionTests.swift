import Foundation
import Testing

/// Whatever names an option of the command names one that it has, and the manuals name them all.
@Suite struct OptionTests {
  let folder: Folder

  init() throws { folder = try Folder() }

  private struct Dump: Decodable {
    var command: Command
  }

  private struct Command: Decodable {
    var commandName: String
    var shouldDisplay: Bool
    var subcommands: [Command]?
    var arguments: [Argument]?

    struct Argument: Decodable {
      var shouldDisplay: Bool
      var names: [Name]?
    }

    struct Name: Decodable {
      var kind: String
      var name: String
    }

    /// Its options as they are typed.
    func options(hidden: Bool) -> [String] {
      (arguments ?? []).filter { hidden || $0.shouldDisplay }.flatMap { $0.names ?? [] }
        .map { ($0.kind == "long" ? "--" : "-") + $0.name }
    }

    /// It and all below it, each with the names that lead there.
    func all(after parents: [String] = []) -> [(path: [String], command: Command)] {
      let path = parents + [commandName]
      return [(path, self)] + (subcommands ?? []).flatMap { $0.all(after: path) }
    }
  }

  private func commands() throws -> [(path: [String], command: Command)] {
    let dump = try Child("exec \"$K\" --experimental-dump-help", in: folder).output
    return try JSONDecoder().decode(Dump.self, from: Data(dump.utf8)).command.all()
  }

  private static let root = URL(filePath: #filePath).appending(path: "../../..").standardized

  /// Documents, scripts and sources. What libFuzzer found and tests of wrong options name no options of ours.
  private static let files: [String] = {
    let folders = [
      ".ci", "docs", "drivers", "Examples", "fleet", "lab", "packaging", "guest-images", "Sources",
      "Tests", "Bench",
    ]
    let inside = folders.flatMap { folder in
      (FileManager.default.enumerator(atPath: root.appending(path: folder).path)?.allObjects ?? [])
        .compactMap { ($0 as? String).map { "\(folder)/\($0)" } }
    }
    let isTest = { (name: String) in name.hasPrefix("Tests/") && name.hasSuffix(".swift") }
    let left = ["lab/out/", "lab/cache/", "Tests/Fuzz/corpus/", "Tests/Fixtures/"]
    return (["README.md", "CONTRIBUTING.md", "Makefile"] + inside).filter { name in
      !isTest(name) && !left.contains { name.hasPrefix($0) }
    }
  }()

  /// `Tests/Fuzz/run.sh` called `run` with an option that was gone.
  @Test func everyOptionThatIsNamedIsThere() throws {
    var options: [String: Set<String>] = [:]
    for (path, command) in try commands() where path.count > 1 {
      options[path[1], default: []].formUnion(command.options(hidden: true))
    }
    let all = options.values.reduce(Set()) { $0.union($1) }
    let names = options.keys.joined(separator: "|")
    // In a shell, a list of Python's or YAML's, a Makefile: the command, what it is to do, and the rest of the line.
    let call = try Regex<(Substring, Substring, Substring)>(
      #"(?:kvmclock|KVMCLOCK|\$K|args:|command =)[\s"'}\])\[,{]+(\#(names))\b([^\n`|;&]*)"#)
    var calls = 0
    for file in Self.files {
      let url = Self.root.appending(path: file)
      guard let text = try? String(contentsOf: url, encoding: .utf8) else { continue }
      let whole = text.replacing(/\\\n\s*(?:\/\/+|#)?\s*/, with: " ")
      for match in whole.matches(of: call) {
        let rest = match.output.2.components(separatedBy: " -- ")[0]
        for option in rest.matches(of: /(?:^|[^\w-])(--[a-z][a-z-]*)/).map(\.output.1) {
          calls += 1
          // What is to be completed is no whole option.
          if file == "packaging/test.sh", option == "--ch" { continue }
          let has = options[String(match.output.1)] ?? []
          #expect(has.contains(String(option)), "\(file): \(match.output.0)")
        }
      }
      guard file.hasSuffix(".md") else { continue }
      for match in text.matches(of: /`(--[a-z][a-z-]*)[^`]*`/) {
        #expect(all.contains(String(match.output.1)), "\(file): \(match.output.0)")
      }
    }
    #expect(calls > 80, "this many are found, so that the pattern still fits")
  }

  @Test func theManPagesNameEveryOption() throws {
    let script = Self.root.appending(path: "packaging/manual.py").path
    try Child("exec python3 '\(script)' \"$K\" man", in: folder).expect(0)
    for (path, command) in try commands() where command.shouldDisplay && path.last != "help" {
      let page = try folder.read("man/\(path.joined(separator: "-")).1")
      for option in command.options(hidden: false) {
        let term = "\\fB\(option.replacing("-", with: "\\-"))\\fR"
        #expect(page.contains(term), "\(path): \(option)")
      }
    }
  }

  @Test func helpNamesEveryOption() throws {
    for (path, command) in try commands() where command.shouldDisplay && path.last != "help" {
      let help = try Child(
        "exec \"$K\" \(path.dropFirst().joined(separator: " ")) --help", in: folder
      ).output
      for option in command.options(hidden: false) { #expect(help.contains(option), "\(path)") }
    }
  }

  @Test(arguments: ["bash", "zsh", "fish"])
  func theCompletionsNameEveryOption(shell: String) throws {
    let script = try Child("exec \"$K\" --generate-completion-script \(shell)", in: folder).output
    for (path, command) in try commands() where command.shouldDisplay && path.last != "help" {
      for option in command.options(hidden: false) where option.hasPrefix("--") {
        // fish names an option without its hyphens.
        let name = shell == "fish" ? "-l '\(option.dropFirst(2))'" : option
        #expect(script.contains(name), "\(path): \(option)")
      }
    }
  }
}
