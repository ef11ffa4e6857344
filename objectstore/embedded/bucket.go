//go:build !noembed

package embedded

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/s3api/utils"
	"github.com/versity/versitygw/s3err"
)

// ensureBucket creates the bucket as the server's own account would.
func (d *durable) ensureBucket(ctx context.Context, bucket, owner string) error {
	utils.SetBucketNameValidationStrict(true)
	if !utils.IsValidBucketName(bucket) {
		return errors.New("not a valid bucket name")
	}
	acl, err := json.Marshal(auth.ACL{Owner: owner})
	if err != nil {
		return err
	}
	err = d.CreateBucket(ctx, &s3.CreateBucketInput{
		Bucket: &bucket, ObjectOwnership: types.ObjectOwnershipBucketOwnerEnforced,
		CreateBucketConfiguration: &types.CreateBucketConfiguration{},
	}, acl)
	var exists s3err.S3Error
	switch {
	case errors.As(err, &exists):
		if code := exists.BaseError().Code; code == "BucketAlreadyOwnedByYou" || code == "BucketAlreadyExists" {
			return nil
		}
	case errors.Is(err, meta.ErrNoSuchKey):
		// A power cut came between the directory and its attributes.
		return errors.Join(d.PutBucketAcl(ctx, bucket, acl),
			d.PutBucketOwnershipControls(ctx, bucket, types.ObjectOwnershipBucketOwnerEnforced))
	}
	return err
}
