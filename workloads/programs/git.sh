# A repository with a history, packed and asked for it. Dates and names are fixed, so that every
# object's name is the same with every version of git.
set -eu
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org
export GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org
export GIT_DEFAULT_HASH=sha1
# The history in the form of git fast-import: 400 commits that change some of 300 files each.
awk 'BEGIN {
    seed = 1
    for (commit = 1; commit <= 400; commit++) {
        print "commit refs/heads/main"
        print "committer a <a@example.org> " 1000000000 + commit * 3600 " +0000"
        message = "commit " commit
        print "data " length(message) "\n" message
        for (n = 0; n < 12; n++) {
            seed = (seed * 16807) % 2147483647
            file = seed % 300
            text = ""
            for (line = 0; line < 60; line++) {
                if (line == commit % 60) seed = (seed * 16807) % 2147483647
                text = text "line " line " of file " file ": " (line == commit % 60 ? seed : line * file) "\n"
            }
            print "M 100644 inline dir" file % 17 "/file" file
            print "data " length(text) "\n" text
        }
    }
}' > history
git -c init.defaultBranch=main init -q repository
cd repository
git config core.fsync none
git config gc.auto 0
git config core.looseCompression 1
git fast-import --quiet < ../history
git checkout -q -f main
git rev-parse HEAD
git repack -a -d -f -q --depth=20 --window=8 --threads=1
git fsck --full --no-progress
git log --format=%H --stat=80 | cksum
git log -p --format=%s -- dir3 | grep -c '^[+-]line'
git diff --shortstat HEAD~200 HEAD | tr -dc '0-9,\n'
for file in dir1/file1 dir2/file2 dir3/file3; do
    git blame --porcelain "$file" 2> /dev/null | grep -c '^author ' || true
done
for n in 1 2 3 4 5 6 7 8; do
    echo "more $n" > "more$n"
    git add "more$n"
    GIT_AUTHOR_DATE="110000000$n +0000" GIT_COMMITTER_DATE="110000000$n +0000" git commit -q -m "more $n"
done
git rev-parse HEAD
git status --porcelain
